// SPDX-License-Identifier: Apache-2.0
// x / constant, element by element
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/op.hpp>
#include <hull/relax/convex.hpp>

namespace hull {

/// 1 / constant is rarely a float: the slope is the nearest one, the rest over the box is in the biases. A constant of
/// zero is bad input; the lines then say nothing.
struct div_by final {
  float constant;  // finite

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x / T(constant);
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const { return box / point(constant); }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const {
    interval<double> const by = point(static_cast<double>(constant));
    if (is_empty(box) || !is_finite(box) || !is_finite(by) || constant == 0) return unknown_lines();
    float const slope = nearest_slope(1 / by.lower);
    interval<double> const at_lower = point(static_cast<double>(box.lower)) / by;
    interval<double> const at_upper = point(static_cast<double>(box.upper)) / by;
    return parallel_lines(slope, chord_rest(box, at_lower, at_upper, slope));
  }

  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return true; }
};

template <fixed_string Layer>
struct div_constant_t final {
  static constexpr std::string_view name = "Div";
  static constexpr std::string_view layer = Layer.view();
  static constexpr std::array parameters{pointwise_parameter{"constant", per::element}};
  using element = div_by;
};

template <fixed_string Layer>
inline constexpr div_constant_t<Layer> Div{};
static_assert(Pointwise<div_constant_t<"layer">>);

}  // namespace hull
