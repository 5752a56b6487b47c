// SPDX-License-Identifier: Apache-2.0
// One decision of input splitting: which coordinate of a box is cut, and where.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include <hull/propagate/specification.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

struct input_cut final {
  std::size_t coordinate = 0;
  double at = 0;
  bool possible = false;  // false: no coordinate can be cut any more
};

namespace detail {

/// The place to cut a range, or NaN. Propagation sees ranges rounded outward to floats, so the cut is a float strictly
/// between those: both halves are then smaller for propagation too, and meet in one plane without rounding.
[[nodiscard]] inline double middle_float(input_range const& range) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float const lower = down::from_double(range.lower), upper = up::from_double(range.upper);
  float const first = std::nextafter(lower, infinity), last = std::nextafter(upper, -infinity);
  if (!(first <= last)) return std::numeric_limits<double>::quiet_NaN();
  float const middle = static_cast<float>(0.5 * (static_cast<double>(lower) + static_cast<double>(upper)));
  return std::clamp(middle, first, last);
}

}  // namespace detail

/// Cuts the coordinate with the largest (|A_i| + share * max |A|) times width. The first term is what the row's bound
/// loses to that coordinate ("smart branching", Wang et al. 2018, ReluVal, section 4.3, with the slopes of CROWN for
/// gradients); the second stands for what the row does not see, the looseness of its relaxations, which wide
/// coordinates cause. On ACAS Xu the first term alone takes up to 50 times as many boxes, the width alone up to 40
/// times. `slopes`: A [ranges] of the row nearest to proof. Cost: linear in the number of ranges.
[[nodiscard]] inline input_cut choose_cut(std::span<input_range const> ranges, std::span<float const> slopes) {
  constexpr double share = 0.1;
  double steepest = 0;
  for (float const a : slopes) {
    if (std::isfinite(a)) steepest = std::max(steepest, static_cast<double>(std::fabs(a)));
  }
  if (steepest == 0) steepest = 1;  // the row says nothing: the widest
  input_cut best;
  double best_score = -1;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    double const a = std::isfinite(slopes[i]) ? static_cast<double>(std::fabs(slopes[i])) : steepest;
    double const score = (a + share * steepest) * (ranges[i].upper - ranges[i].lower);
    if (!(score > best_score)) continue;
    double const at = detail::middle_float(ranges[i]);
    if (std::isnan(at)) continue;
    best = {i, at, true};
    best_score = score;
  }
  return best;
}

}  // namespace hull
