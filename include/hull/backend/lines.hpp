// SPDX-License-Identifier: Apache-2.0
// One element of a stage between its head and its output: the lines of the tail in centred form, and what rounding
// costs. Every backend runs these lines for every element, so bounds differ between backends by summation alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>
#include <hull/net/fuse.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/propagate/state.hpp>
#include <hull/relax/compose.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

/// The tail of stage S at element i, as one relaxation: lines of the whole chain and the interval of the output.
struct tail_bounds final {
  lines<float> around;
  interval<float> image;
  interval<float> domain;  // of the variable that the lines are over
};

template <class S, class Parameters>
HULL_FN tail_bounds relax_tail(Parameters const& weights, stage_state const& s, std::size_t box, std::size_t i) {
  std::size_t const at = box * s.size + i;
  interval<float> value{s.lower[at], s.upper[at]};
  lines<float> around{{1, 0}, {1, 0}};
  interval<float> domain = value;
  if constexpr (HeadOf<typename S::head, max_head>) {
    // the head as a function of its pick: at least the pick, at most the ceiling
    domain = {down::from_double(down::sub(s.origin[at], static_cast<double>(s.radius[at]))),
              up::from_double(up::add(s.origin[at], static_cast<double>(s.radius[at])))};
    if (!std::isinf(s.ceiling[at]) || s.ceiling[at] > 0) around.upper = {0, s.ceiling[at]};
  }
  if (!is_finite(value)) {  // nothing is known: NaN in the lines reaches every row and ends as "unknown"
    float const nan = std::numeric_limits<float>::quiet_NaN();
    return {{{0, nan}, {0, nan}}, {nan, nan}, {nan, nan}};
  }
  S::for_each_tail([&]<std::size_t I> {
    auto const f = weights.template element<I>(i);
    around = compose(f.relax(value), around, domain);
    value = f.image(value);
  });
  return {around, value, domain};
}

/// Whether tighter bounds of the head could tighten the relaxation of element i.
template <class S, class Parameters>
HULL_FN bool gains_from_bounds(Parameters const& weights, stage_state const& s, std::size_t box, std::size_t i) {
  interval<float> value{s.lower[box * s.size + i], s.upper[box * s.size + i]};
  bool linear = true;
  S::for_each_tail([&]<std::size_t I> {
    auto const f = weights.template element<I>(i);
    linear = linear && f.linear_on(value);
    value = f.image(value);
  });
  return !linear;
}

/// How far the line of the other side can be from a line of the same slope through its own shift: the largest of
/// (upper slope - lower slope) (t - origin) on the domain, at least 0.
HULL_FN inline double far_gap(lines<float> around, interval<float> domain, double origin) {
  double const steeper = static_cast<double>(around.upper.slope) - static_cast<double>(around.lower.slope);
  double const gap = std::max(steeper * (domain.lower - origin), steeper * (domain.upper - origin));
  return gap == gap ? std::max(gap, 0.0) : gap;  // NaN stays
}

/// Lines and output interval of element i over box b, from the bounds of its head. The lines go to `place` of their
/// arrays, which the element is not computed from.
template <class S, class R, class Parameters>
HULL_FN void relax_element(Parameters const& weights, stage_state const& s, std::size_t b, std::size_t i,
                           std::size_t place) {
  std::size_t const at = b * S::size + i;
  auto const [around, image, domain] = relax_tail<S>(weights, s, b, i);
  float const centre = static_cast<float>(0.5 * (static_cast<double>(image.lower) + static_cast<double>(image.upper)));
  float const above = up::sub(image.upper, centre), under = up::sub(centre, image.lower);
  s.centre[at] = centre;
  s.spread[at] = above < under ? under : above;  // NaN stays: both are NaN then
  s.lower_slope[place] = around.lower.slope;
  s.upper_slope[place] = around.upper.slope;
  double const origin = s.origin[at], error = s.origin_error[at];
  // line(origin) - centre; 4 roundings of double, and the distance of origin from the exact origin
  auto const shift = [&](line<float> l) { return l.slope * origin + l.bias - centre; };
  auto const doubt = [&](line<float> l) {
    return std::fabs(l.slope) * error +
           8 * unit_double * (std::fabs(l.slope * origin) + std::fabs(l.bias) + std::fabs(centre));
  };
  if constexpr (R::outward) {
    s.lower_shift[place] = down::from_double(shift(around.lower) - doubt(around.lower));
    s.upper_shift[place] = up::from_double(shift(around.upper) + doubt(around.upper));
    double const turn = std::fabs(static_cast<double>(around.upper.slope) - static_cast<double>(around.lower.slope));
    double const gap = far_gap(around, domain, origin) * (1 + 16 * unit_double) + turn * error;
    s.lower_far[place] = up::from_double(up::add(static_cast<double>(s.upper_shift[place]), gap));
    s.upper_far[place] = down::from_double(down::sub(static_cast<double>(s.lower_shift[place]), gap));
  } else {
    s.lower_shift[place] = static_cast<float>(shift(around.lower));
    s.upper_shift[place] = static_cast<float>(shift(around.upper));
    double const gap = far_gap(around, domain, origin);
    s.lower_far[place] = static_cast<float>(s.upper_shift[place] + gap);
    s.upper_far[place] = static_cast<float>(s.lower_shift[place] - gap);
  }
}
/// The same, not yet moved to live columns.
template <class S, class R, class Parameters>
HULL_FN void relax_element(Parameters const& weights, stage_state const& s, std::size_t b, std::size_t i) {
  relax_element<S, R>(weights, s, b, i, b * S::size + i);
}

/// Whether the output of element i over one box may differ from its centre. Written so that NaN counts as live.
[[nodiscard]] HULL_FN inline bool is_live(stage_state const& s, std::size_t at) {
  bool const zero = s.lower_slope[at] == 0 && s.upper_slope[at] == 0 && s.lower_shift[at] == 0 &&
                    s.upper_shift[at] == 0 && s.spread[at] == 0;
  return !zero;
}

/// Relative error of A * slope: none for the slopes of a stable ReLU.
HULL_FN inline double slope_error(stage_state const& s, std::size_t at) {
  float const low = s.lower_slope[at], high = s.upper_slope[at];
  bool const exact = (low == 0 || low == 1) && (high == 0 || high == 1);
  return exact ? 0 : 1.001 * unit_float;
}

/// What rounding can cost live column `at` per unit of |A|: in A * slope, in the head's backward product, and in sums
/// of shifts over `size` columns.
[[nodiscard]] HULL_FN inline float column_error(stage_state const& s, std::size_t at, std::size_t size,
                                                double product_error, double weight_error) {
  double const low = std::fabs(s.lower_slope[at]), high = std::fabs(s.upper_slope[at]);
  double const low_far = std::fabs(s.lower_far[at]), high_far = std::fabs(s.upper_far[at]);
  double const steep = low < high ? high : low, far = low_far < high_far ? high_far : low_far;
  double const error =
      steep * s.reach[at] * (product_error + slope_error(s, at) + weight_error) + gamma_sum(size) * far;
  return up::from_double(1.001 * error);
}

/// Error of the backward product for live column c of a Linear head: terms that come late meet fewer roundings,
/// c % chain fewer in their own chain and one fewer for each chain added before.
[[nodiscard]] HULL_FN constexpr double ordered_error(std::size_t roundings, std::size_t c) {
  return gamma(roundings - c % chain_terms - c / chain_terms, unit_float);
}

}  // namespace hull
