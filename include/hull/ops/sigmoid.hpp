// SPDX-License-Identifier: Apache-2.0
// 1 / (1 + e^-x)
#pragma once

#include <cmath>

#include <hull/ops/op.hpp>
#include <hull/relax/s_curve.hpp>
#include <hull/scalar/elementary.hpp>

namespace hull {

/// Chord on one side, tangent on the other (relax/s_curve.hpp).
struct sigmoid_t final {
  static constexpr std::string_view name = "Sigmoid";
  static constexpr auto parameters = no_parameters;
  using element = sigmoid_t;

  /// The function as an S-shaped curve.
  struct curve final {
    static constexpr double sum = 1;
    [[nodiscard]] HULL_FN interval<double> value(double t) const { return {down::sigmoid(t), up::sigmoid(t)}; }
    [[nodiscard]] HULL_FN interval<double> slope(double t) const {
      return {down::sigmoid_slope(t), up::sigmoid_slope(t)};
    }
  };

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    T const e = std::exp(x < T(0) ? x : -x);  // at most 1: never overflows
    return x < T(0) ? e / (T(1) + e) : T(1) / (T(1) + e);
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box)) return everything<float>();
    return {down::sigmoid(box.lower), up::sigmoid(box.upper)};
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const { return s_curve_lines(curve{}, box); }

  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return false; }
};

inline constexpr sigmoid_t Sigmoid{};
static_assert(Pointwise<sigmoid_t>);

}  // namespace hull
