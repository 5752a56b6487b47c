// SPDX-License-Identifier: Apache-2.0
// Chord and tangent: the two lines that bracket a convex function (mirrored: a concave one), made sound for float
// slopes.
//
// A slope is chosen first and may be any float: a poor one costs tightness, never soundness. What is left of the
// function is its rest, f(t) - slope * t; the bias is an end of an enclosure of the rest over the box.
#pragma once

#include <limits>

#include <hull/core/config.hpp>
#include <hull/relax/lines.hpp>
#include <hull/scalar/interval.hpp>

namespace hull {

/// Lines that say nothing, for a box or parameters for which f is not bounded. A bound computed with them is infinite
/// or NaN; neither may count as proved.
HULL_FN constexpr lines<float> unknown_lines() {
  return {{0, -std::numeric_limits<float>::infinity()}, {0, std::numeric_limits<float>::infinity()}};
}

/// The float nearest to x, but finite.
HULL_FN constexpr float nearest_slope(double x) {
  double const largest = static_cast<double>(std::numeric_limits<float>::max());
  return static_cast<float>(x > largest ? largest : (x < -largest ? -largest : x));
}

/// Encloses f(t) - slope * t, given an enclosure of f(t).
HULL_FN inline interval<double> rest(double t, interval<double> value, float slope) {
  return value - scale(point(t), static_cast<double>(slope));
}

/// The slope of the line through both ends of f, rounded to nearest. pre: box is finite and not a point
HULL_FN inline float chord_slope(interval<float> box, interval<double> at_lower, interval<double> at_upper) {
  double const run = static_cast<double>(box.upper) - static_cast<double>(box.lower);
  return nearest_slope((midpoint(at_upper) - midpoint(at_lower)) / run);
}

/// Encloses the rest of f at both ends of the box, hence, for t in the box,
///   f(t) - slope * t <= .upper  if f is convex there: the rest is convex too, so it is largest at an end;
///   f(t) - slope * t >= .lower  if f is concave there;  both if f is affine.
HULL_FN inline interval<double> chord_rest(interval<float> box, interval<double> at_lower, interval<double> at_upper,
                                           float slope) {
  return join(rest(static_cast<double>(box.lower), at_lower, slope),
              rest(static_cast<double>(box.upper), at_upper, slope));
}

/// For f convex on the box: f(t) - slope * t >= the result for t in the box. `value` and `derivative` enclose f and f'
/// at p, a point of the box; the result is best when slope is close to f'(p).
/// Proof: f(t) >= f(p) + f'(p) (t - p), so the rest is at least its value at p less |f'(p) - slope| |t - p| on the
/// side on which the tangent falls away from the line.
HULL_FN inline double tangent_rest(interval<double> box, double p, interval<double> value, interval<double> derivative,
                                   float slope) {
  double const k = static_cast<double>(slope);
  double const steeper = up::sub(k, derivative.lower);    // the line gains on the tangent to the right of p
  double const shallower = up::sub(derivative.upper, k);  // and to the left
  double const right = steeper > 0 ? up::mul(steeper, up::sub(box.upper, p)) : 0;
  double const left = shallower > 0 ? up::mul(shallower, up::sub(p, box.lower)) : 0;
  return down::sub(rest(p, value, slope).lower, left > right ? left : right);
}

/// Two parallel lines around a function whose rest lies in `band` all over the box.
HULL_FN inline lines<float> parallel_lines(float slope, interval<double> band) {
  interval<float> const bias = narrow(band);
  return {{slope, bias.lower}, {slope, bias.upper}};
}

}  // namespace hull
