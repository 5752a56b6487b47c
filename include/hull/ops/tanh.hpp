// SPDX-License-Identifier: Apache-2.0
// (e^x - e^-x) / (e^x + e^-x)
#pragma once

#include <cmath>

#include <hull/ops/op.hpp>
#include <hull/relax/s_curve.hpp>
#include <hull/scalar/elementary.hpp>

namespace hull {

/// Chord on one side, tangent on the other (relax/s_curve.hpp).
struct tanh_t final {
  static constexpr std::string_view name = "Tanh";
  static constexpr auto parameters = no_parameters;
  using element = tanh_t;

  /// The function as an S-shaped curve.
  struct curve final {
    static constexpr double sum = 0;
    [[nodiscard]] HULL_FN interval<double> value(double t) const { return {down::tanh(t), up::tanh(t)}; }
    [[nodiscard]] HULL_FN interval<double> slope(double t) const {
      // tanh(t) = 2 sigmoid(2 t) - 1, and factors of two are exact
      return {4 * down::sigmoid_slope(2 * t), 4 * up::sigmoid_slope(2 * t)};
    }
  };

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return std::tanh(x);
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box)) return everything<float>();
    return {down::tanh(box.lower), up::tanh(box.upper)};
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const { return s_curve_lines(curve{}, box); }

  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return false; }
};

inline constexpr tanh_t Tanh{};
static_assert(Pointwise<tanh_t>);

}  // namespace hull
