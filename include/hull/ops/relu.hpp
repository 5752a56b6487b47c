// SPDX-License-Identifier: Apache-2.0
// max(x, 0)
#pragma once

#include <hull/ops/op.hpp>
#include <hull/relax/convex.hpp>

namespace hull {

/// On a box that straddles zero: above, the chord; below, the line through zero with slope 1 if upper > -lower, else 0.
struct relu_t final {
  static constexpr std::string_view name = "Relu";
  static constexpr auto parameters = no_parameters;
  using element = relu_t;

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x < T(0) ? T(0) : x;  // NaN stays NaN
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box)) return everything<float>();
    return {box.lower > 0 ? box.lower : 0, box.upper > 0 ? box.upper : 0};
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const {
    if (is_empty(box)) return unknown_lines();
    if (box.lower >= 0) return {{1, 0}, {1, 0}};
    if (box.upper <= 0) return {{0, 0}, {0, 0}};
    if (!is_finite(box)) return {{0, 0}, unknown_lines().upper};
    float const slope = up::div(box.upper, down::sub(box.upper, box.lower));  // >= the chord's, and <= 1
    float const bias = up::mul(-box.lower, slope);  // so the line is >= 0 at lower and >= upper at upper
    float const below = box.upper > -box.lower ? 1.0f : 0.0f;
    return {{below, 0}, {slope, bias}};
  }

  /// Below, any line through zero with a slope from 0 to 1. pre: box straddles zero and is finite
  [[nodiscard]] HULL_FN std::array<lines<float>, 2> free_lines(interval<float> box) const {
    line<float> const above = relax(box).upper;
    return {{{{0, 0}, above}, {{1, 0}, above}}};
  }

  [[nodiscard]] HULL_FN bool linear_on(interval<float> box) const { return box.lower >= 0 || box.upper <= 0; }
};

inline constexpr relu_t Relu{};
static_assert(Pointwise<relu_t> && Kinked<relu_t>);

}  // namespace hull
