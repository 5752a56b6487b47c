// SPDX-License-Identifier: Apache-2.0
// Lines that bracket an S-shaped function: increasing, convex left of zero, concave right of it, point symmetric.
#pragma once

#include <concepts>

#include <hull/core/config.hpp>
#include <hull/relax/convex.hpp>
#include <hull/relax/lines.hpp>
#include <hull/scalar/interval.hpp>

namespace hull {

/// What is asked of an S-shaped function f.
///   value  encloses f(t);  slope  encloses f'(t);  t may be infinite, where they enclose the limits
///   sum    f(t) + f(-t), the same for every t
template <class F>
concept SCurve = requires(F const f, double t) {
  { f.value(t) } -> std::same_as<interval<double>>;
  { f.slope(t) } -> std::same_as<interval<double>>;
  { F::sum } -> std::convertible_to<double>;
};

/// The t <= 0 whose tangent passes through the end point (upper, f(upper)), or box.lower if that comes first.
/// Accurate to 2^-33, which only decides the choice of a slope. pre: box straddles zero
/// The tangent's own point lies right of -128 for every float end point if f' < 1e-50 there, as for all ops here.
template <SCurve F>
HULL_FN double touching_point(F f, interval<double> box) {
  double const far_left = -128;
  double const goal = midpoint(f.value(box.upper));
  interval<double> bracket{box.lower > far_left ? box.lower : far_left, 0};
  for (int step = 0; step < 40; ++step) {
    double const p = midpoint(bracket);
    double const at_end = midpoint(f.value(p)) + midpoint(f.slope(p)) * (box.upper - p);
    if (at_end > goal) {
      bracket.upper = p;
    } else {
      bracket.lower = p;
    }
  }
  return bracket.lower;
}

/// A line below f on the box, the bias still in double. pre: box is finite, lower < upper
/// Right of zero the chord; left of it the tangent at the midpoint; across zero the chord if it runs below f, else the
/// tangent through the upper end point, or at the midpoint if that lies further left (auto_LiRPA's choice).
template <SCurve F>
HULL_FN line<double> line_below(F f, interval<float> box) {
  interval<double> const wide = widen(box);
  interval<double> const at_lower = f.value(wide.lower);
  interval<double> const at_upper = f.value(wide.upper);

  // Below a concave piece any line through or under both ends will do. Across zero that holds for slopes <= f'(lower):
  // the rest then rises up to -lower, is concave from there on, and so is least at an end.
  float const chord = chord_slope(box, at_lower, at_upper);
  if (wide.lower >= 0 || static_cast<double>(chord) <= f.slope(wide.lower).lower) {
    return {static_cast<double>(chord), chord_rest(box, at_lower, at_upper, chord).lower};
  }

  double const middle = midpoint(wide);
  double p = middle;
  if (wide.upper > 0) {
    double const touching = touching_point(f, wide);
    p = touching < middle ? touching : middle;
  }
  interval<double> const derivative = f.slope(p);
  float const slope = nearest_slope(midpoint(derivative));
  interval<double> const convex{wide.lower, wide.upper < 0 ? wide.upper : 0};
  double bias = tangent_rest(convex, p, f.value(p), derivative, slope);
  if (wide.upper > 0) {  // on [0, upper] the rest is concave: least at 0, which the tangent covers, or at upper
    double const at_end = rest(wide.upper, at_upper, slope).lower;
    bias = at_end < bias ? at_end : bias;
  }
  return {static_cast<double>(slope), bias};
}

/// Lines around f. At a point and on an unbounded box they are horizontal; the upper one mirrors the lower one of the
/// mirrored box: f(t) = sum - f(-t) <= sum - (slope * -t + bias).
template <SCurve F>
HULL_FN lines<float> s_curve_lines(F f, interval<float> box) {
  if (is_empty(box)) return unknown_lines();
  if (!is_finite(box) || box.lower == box.upper) {
    return {{0, down::from_double(f.value(static_cast<double>(box.lower)).lower)},
            {0, up::from_double(f.value(static_cast<double>(box.upper)).upper)}};
  }
  line<double> const below = line_below(f, box);
  line<double> const mirrored = line_below(f, -box);
  return {{static_cast<float>(below.slope), down::from_double(below.bias)},
          {static_cast<float>(mirrored.slope), up::from_double(up::sub(F::sum, mirrored.bias))}};
}

}  // namespace hull
