// SPDX-License-Identifier: Apache-2.0
// One free column: the lines between which its parameter chooses, and what rounding can cost them. For every backend.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include <hull/backend/lines.hpp>
#include <hull/propagate/free.hpp>

namespace hull {

/// The tail of a stage around its first kink that the interval straddles. Lines are functions of the head t.
struct kink_lines final {
  bool found = false;
  interval<float> argument{};          // of the kink
  lines<float> kink{};                 // the argument z
  std::array<lines<float>, 4> tail{};  // parameter 0, parameter 1, z >= 0, z <= 0
};

/// `start`: lines and interval of the head as relax_tail begins with them.
template <class S, class Parameters>
HULL_FN kink_lines relax_kink(Parameters const& weights, stage_state const& s, std::size_t i) {
  kink_lines result;
  interval<float> value{s.lower[i], s.upper[i]}, domain = value;
  lines<float> around{{1, 0}, {1, 0}};
  if (!is_finite(value)) return result;
  if constexpr (HeadOf<typename S::head, max_head>) {
    domain = {down::from_double(down::sub(s.origin[i], static_cast<double>(s.radius[i]))),
              up::from_double(up::add(s.origin[i], static_cast<double>(s.radius[i])))};
    if (!std::isinf(s.ceiling[i]) || s.ceiling[i] > 0) around.upper = {0, s.ceiling[i]};
  }
  std::array<interval<float>, 4> values{};
  S::for_each_tail([&]<std::size_t I> {
    auto const f = weights.template element<I>(i);
    if (result.found) {
      for (std::size_t v = 0; v < 4; ++v) {
        result.tail[v] = compose(f.relax(values[v]), result.tail[v], domain);
        values[v] = f.image(values[v]);
      }
      return;
    }
    if constexpr (Kinked<decltype(weights.template element<I>(i))>) {
      if (value.lower < 0 && value.upper > 0 && is_finite(value) && !f.linear_on(value)) {
        result = {true, value, around, {}};
        interval<float> const above{0, value.upper}, below{value.lower, 0};
        auto const ends = f.free_lines(value);
        values = {f.image(value), f.image(value), f.image(above), f.image(below)};
        result.tail = {compose(ends[0], around, domain), compose(ends[1], around, domain),
                       compose(f.relax(above), around, domain), compose(f.relax(below), around, domain)};
        return;
      }
    }
    around = compose(f.relax(value), around, domain);
    value = f.image(value);
  });
  return result;
}

namespace detail {

/// Of x and the magnitudes of a and b.
[[nodiscard]] HULL_FN inline double largest(double x, float a, float b) {
  double const more = std::fabs(a) < std::fabs(b) ? std::fabs(b) : std::fabs(a);
  return x < more ? more : x;
}

}  // namespace detail

/// Stores live column c as one without a parameter.
template <class R>
HULL_FN void set_fixed(stage_state const& s, free_columns const& f, std::size_t c, double sum_error) {
  double const shift = detail::largest(0, s.lower_shift[c], s.upper_shift[c]);
  f.fixed.lower_slope[c] = s.lower_slope[c];
  f.fixed.upper_slope[c] = s.upper_slope[c];
  f.fixed.lower_shift[c] = s.lower_shift[c];
  f.fixed.upper_shift[c] = s.upper_shift[c];
  f.fixed_error[c] = R::outward ? up::from_double(1.001 * (s.error[c] + sum_error * shift)) : 0;
  f.mask[c] = 0;
}

/// Stores live column c as free column `at`, if it is one; f.column[at] and the fixed lines are the caller's business.
/// Returns whether it is. `head_bias`: constant of the head here, for the scores of branching only.
///
/// Why it is sound: a mean of two sound lines is sound. Its slope is computed in float with at most three roundings of
/// numbers no larger than twice the steepest slope, its shift in double; what both may be wrong by, over the radius
/// of t, is in `error`, with the error of the backward product; `slope_floor`: what that loses to underflow per unit of
/// slope, whatever the radius.
template <class S, class R, class Parameters>
HULL_FN bool set_free(Parameters const& weights, stage_state const& s, free_columns const& f, std::size_t c,
                      std::size_t at, double product_error, double sum_error, float head_bias, double slope_floor = 0) {
  std::size_t const i = s.live[c];
  kink_lines const found = relax_kink<S>(weights, s, i);
  if (!found.found) return false;
  double const origin = s.origin[i], doubt = s.origin_error[i], radius = s.radius[i];
  double steep = 0, far = 0;
  // line(origin) - centre, rounded outward: see relax_stage
  auto const store = [&](line_arrays const& to, lines<float> const& from, double centre) {
    auto const value = [&](line<float> l) { return l.slope * origin + l.bias - centre; };
    auto const wrong = [&](line<float> l) {
      double const sizes = std::fabs(l.slope * origin) + std::fabs(l.bias) + std::fabs(centre);
      return R::outward ? std::fabs(l.slope) * doubt + 8 * unit_double * sizes : 0.0;
    };
    to.lower_slope[at] = from.lower.slope;
    to.upper_slope[at] = from.upper.slope;
    to.lower_shift[at] = down::from_double(value(from.lower) - wrong(from.lower));
    to.upper_shift[at] = up::from_double(value(from.upper) + wrong(from.upper));
    steep = detail::largest(steep, from.lower.slope, from.upper.slope);
    far = detail::largest(far, to.lower_shift[at], to.upper_shift[at]);
  };
  auto const rounding = [&] {
    double const slopes = (steep * (product_error + 16 * unit_float) + 8 * float_floor) * radius + steep * slope_floor;
    return R::outward ? up::from_double(1.001 * (slopes + sum_error * far)) : 0.0f;
  };
  store(f.kink, found.kink, 0);
  f.split_error[at] = rounding();
  steep = far = 0;
  store(f.zero, found.tail[0], s.centre[i]);
  store(f.one, found.tail[1], s.centre[i]);
  store(f.above, found.tail[2], s.centre[i]);
  store(f.below, found.tail[3], s.centre[i]);
  f.error[at] = rounding();
  if (!std::isfinite(steep + far) || !std::isfinite(f.error[at]) || !std::isfinite(f.split_error[at])) return false;

  bool const is_one = s.lower_slope[c] == f.one.lower_slope[at] && s.upper_slope[c] == f.one.upper_slope[at];
  f.start[at] = is_one ? 1.0f : 0.0f;
  auto const& low = found.tail[0].lower;
  auto const& high = found.tail[0].upper;
  double const inner = 0.5 * (static_cast<double>(found.kink.lower.slope) + found.kink.upper.slope);
  double const constant = 0.5 * (static_cast<double>(found.kink.lower.bias) + found.kink.upper.bias);
  double const place = inner == 0 ? 0 : -constant / inner;  // z = 0 there
  f.gap[at] = static_cast<float>((static_cast<double>(high.slope) - low.slope) * place + high.bias - low.bias);
  f.ratio[at] = found.argument.upper / (found.argument.upper - found.argument.lower);
  f.bias[at] = static_cast<float>(inner * head_bias + constant);
  return true;
}

/// Takes the lines of live column c out of the fixed ones, because it is free.
HULL_FN inline void clear_fixed(free_columns const& f, std::size_t c) {
  f.fixed.lower_slope[c] = f.fixed.upper_slope[c] = f.fixed.lower_shift[c] = f.fixed.upper_shift[c] = 0;
  f.fixed_error[c] = 0;
  f.mask[c] = 1;
}

}  // namespace hull
