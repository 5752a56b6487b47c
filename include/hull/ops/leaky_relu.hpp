// SPDX-License-Identifier: Apache-2.0
// x for x >= 0, alpha x for x < 0
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/op.hpp>
#include <hull/relax/convex.hpp>

namespace hull {

/// Convex for alpha <= 1, concave for alpha >= 1. On a box that straddles zero: the chord on one side, on the other
/// the line through zero with the slope of the longer half of the box.
struct leaky_relu_by final {
  float alpha;

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x < T(0) ? T(alpha) * x : x;
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box)) return everything<float>();
    if (box.lower >= 0) return box;
    interval<float> const left = scale({box.lower, box.upper < 0 ? box.upper : 0}, alpha);
    return box.upper <= 0 ? left : join(left, {0, box.upper});
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const {
    if (is_empty(box)) return unknown_lines();
    if (box.lower >= 0) return {{1, 0}, {1, 0}};
    if (box.upper <= 0) return {{alpha, 0}, {alpha, 0}};
    if (!is_finite(box) || !is_finite(point(alpha))) return unknown_lines();
    // alpha * lower is exact in double, a product of two floats.
    interval<double> const at_lower = point(static_cast<double>(alpha) * static_cast<double>(box.lower));
    interval<double> const at_upper = point(static_cast<double>(box.upper));
    float const chord = chord_slope(box, at_lower, at_upper);
    interval<float> const bias = narrow(chord_rest(box, at_lower, at_upper, chord));
    line<float> const through_zero{box.upper > -box.lower ? 1.0f : alpha, 0};
    if (alpha <= 1) return {through_zero, {chord, bias.upper}};
    return {{chord, bias.lower}, through_zero};
  }

  /// On the side of the kink, any line through zero with a slope between alpha and 1. pre: box straddles zero
  [[nodiscard]] HULL_FN std::array<lines<float>, 2> free_lines(interval<float> box) const {
    lines<float> const best = relax(box);
    if (alpha <= 1) return {{{{alpha, 0}, best.upper}, {{1, 0}, best.upper}}};
    return {{{best.lower, {alpha, 0}}, {best.lower, {1, 0}}}};
  }

  [[nodiscard]] HULL_FN bool linear_on(interval<float> box) const {
    return box.lower >= 0 || box.upper <= 0 || alpha == 1;
  }
};

template <fixed_string Layer>
struct leaky_relu_t final {
  static constexpr std::string_view name = "LeakyRelu";
  static constexpr std::string_view layer = Layer.view();
  static constexpr std::array parameters{pointwise_parameter{"alpha", per::layer}};
  using element = leaky_relu_by;
};

template <fixed_string Layer>
inline constexpr leaky_relu_t<Layer> LeakyRelu{};
static_assert(Pointwise<leaky_relu_t<"layer">> && Kinked<leaky_relu_by>);

}  // namespace hull
