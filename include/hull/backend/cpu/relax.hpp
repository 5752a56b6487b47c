// SPDX-License-Identifier: Apache-2.0
// Between the head and the output of a stage: which neurons need rows, the lines of the tail in centred form, and the
// step that takes rows from the output of a stage to its head.
#pragma once

#include <cmath>
#include <limits>

#include <hull/backend/cpu/lanes.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/cpu/sparse.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/propagate/state.hpp>
#include <hull/relax/compose.hpp>

namespace hull::cpu {

/// The tail of stage S at element i, as one relaxation: lines of the whole chain and the interval of the output.
struct tail_bounds final {
  lines<float> around;
  interval<float> image;
  interval<float> domain;  // of the variable that the lines are over
};

template <class S, class Parameters>
tail_bounds relax_tail(Parameters const& weights, stage_state const& s, std::size_t box, std::size_t i) {
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
bool gains_from_bounds(Parameters const& weights, stage_state const& s, std::size_t box, std::size_t i) {
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
inline double far_gap(lines<float> around, interval<float> domain, double origin) {
  double const steeper = static_cast<double>(around.upper.slope) - static_cast<double>(around.lower.slope);
  double const gap = std::max(steeper * (domain.lower - origin), steeper * (domain.upper - origin));
  return gap == gap ? std::max(gap, 0.0) : gap;  // NaN stays
}

/// Drops the columns that are zero for every box, and moves the others together.
inline void compact(stage_state& s, std::size_t batch) {
  std::size_t const n = s.size;
  s.live_count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    bool live = false;
    for (std::size_t b = 0; b < batch && !live; ++b) {
      std::size_t const at = b * n + i;
      // written so that NaN counts as live
      bool const zero = s.lower_slope[at] == 0 && s.upper_slope[at] == 0 && s.lower_shift[at] == 0 &&
                        s.upper_shift[at] == 0 && s.spread[at] == 0;
      live = !zero;
    }
    s.slot[i] = live ? static_cast<index_t>(s.live_count) : stage_state::dead;
    if (live) s.live[s.live_count++] = static_cast<index_t>(i);
  }
  for (std::size_t b = 0; b < batch; ++b) {
    double reach = 0, spread = 0;
    for (std::size_t i = 0; i < n; ++i) spread += s.spread[b * n + i];
    for (std::size_t c = 0; c < s.live_count; ++c) {
      std::size_t const from = b * n + s.live[c], to = b * s.live_count + c;
      s.lower_slope[to] = s.lower_slope[from];
      s.upper_slope[to] = s.upper_slope[from];
      s.lower_shift[to] = s.lower_shift[from];
      s.upper_shift[to] = s.upper_shift[from];
      s.lower_far[to] = s.lower_far[from];
      s.upper_far[to] = s.upper_far[from];
      s.reach[to] = s.radius[from];
      reach += s.radius[from];
    }
    s.total_spread[b] = spread;
    s.floor[b] = 2 * float_floor * reach;  // one underflow of A * slope per column
  }
}

/// Relative error of A * slope: none for the slopes of a stable ReLU.
inline double slope_error(stage_state const& s, std::size_t at) {
  auto const exact = [](float slope) { return slope == 0 || slope == 1; };
  return exact(s.lower_slope[at]) && exact(s.upper_slope[at]) ? 0 : 1.001 * unit_float;
}

/// What rounding can cost each live column per unit of |A|: in A * slope, in the head's backward product, and in sums
/// of shifts. `roundings` are counted for all n columns in the worst order. In a Linear head the live ones make fewer
/// chains, and terms that come late meet fewer roundings: c % chain fewer in their own chain, one fewer for each chain
/// added before.
inline void find_errors(stage_state& s, bool ordered, std::size_t batch, std::size_t roundings, bool rounded) {
  if (ordered) roundings -= product_additions(s.size) - product_additions(s.live_count);
  double const sum_error = gamma_sum(s.size);
  double const weight_error = rounded ? 1.001 * unit_float : 0;
  for (std::size_t c = 0; c < s.live_count; ++c) {
    double const product_error = gamma(ordered ? roundings - c % chain - c / chain : roundings, unit_float);
    for (std::size_t b = 0; b < batch; ++b) {
      std::size_t const at = b * s.live_count + c;
      double const steep = std::max(std::fabs(s.lower_slope[at]), std::fabs(s.upper_slope[at]));
      double const far = std::max(std::fabs(s.lower_far[at]), std::fabs(s.upper_far[at]));
      double const error = steep * s.reach[at] * (product_error + slope_error(s, at) + weight_error) + sum_error * far;
      s.error[at] = up::from_double(1.001 * error);
    }
  }
}

/// Computes lines, output interval and live columns of a stage from the bounds of its head.
/// `roundings`: how many a coefficient meets in the head's backward product, sums with other consumers included;
/// `rounded`: the head's coefficients are themselves rounded.
template <class S, class R, class Parameters>
void relax_stage(Parameters const& weights, operands<S, stage_state const*> const& x, stage_state& s, std::size_t batch,
                 std::size_t roundings, bool rounded) {
  constexpr std::size_t n = S::size;
  parallel_ranges(n, 32, 32 * batch, [&](std::size_t first, std::size_t last) {
    for (std::size_t b = 0; b < batch; ++b) {
      for (std::size_t i = first; i < last; ++i) {
        std::size_t const at = b * n + i;
        auto const [around, image, domain] = relax_tail<S>(weights, s, b, i);
        float const centre =
            static_cast<float>(0.5 * (static_cast<double>(image.lower) + static_cast<double>(image.upper)));
        float const spread = std::max(up::sub(image.upper, centre), up::sub(centre, image.lower));
        s.centre[at] = centre;
        s.spread[at] = spread;
        s.lower_slope[at] = around.lower.slope;
        s.upper_slope[at] = around.upper.slope;
        double const origin = s.origin[at], error = s.origin_error[at];
        // line(origin) - centre; 4 roundings of double, and the distance of origin from the exact origin
        auto const shift = [&](line<float> l) { return l.slope * origin + l.bias - centre; };
        auto const doubt = [&](line<float> l) {
          return std::fabs(l.slope) * error +
                 8 * unit_double * (std::fabs(l.slope * origin) + std::fabs(l.bias) + std::fabs(centre));
        };
        if constexpr (R::outward) {
          s.lower_shift[at] = down::from_double(shift(around.lower) - doubt(around.lower));
          s.upper_shift[at] = up::from_double(shift(around.upper) + doubt(around.upper));
          double const turn =
              std::fabs(static_cast<double>(around.upper.slope) - static_cast<double>(around.lower.slope));
          double const gap = far_gap(around, domain, origin) * (1 + 16 * unit_double) + turn * error;
          s.lower_far[at] = up::from_double(up::add(static_cast<double>(s.upper_shift[at]), gap));
          s.upper_far[at] = down::from_double(down::sub(static_cast<double>(s.lower_shift[at]), gap));
        } else {
          s.lower_shift[at] = static_cast<float>(shift(around.lower));
          s.upper_shift[at] = static_cast<float>(shift(around.upper));
          double const gap = far_gap(around, domain, origin);
          s.lower_far[at] = static_cast<float>(s.upper_shift[at] + gap);
          s.upper_far[at] = static_cast<float>(s.lower_shift[at] - gap);
        }
      }
    }
  });
  compact(s, batch);
  if constexpr (R::outward) {
    find_errors(s, HeadOf<typename S::head, linear_head>, batch, roundings, rounded);
  } else {
    std::fill_n(s.error, batch * s.live_count, 0.0f);
  }
  for (std::size_t b = 0; b < batch; ++b) {
    double spread = 0;
    for (stage_state const* one : x) spread += one->total_spread[b];
    s.floor[b] += float_floor * static_cast<double>(s.live_count) * spread;  // one underflow per product
    if constexpr (!R::outward) s.floor[b] = 0;
  }
}

/// What the far shifts add to a row whose coefficients are still those of the output.
inline double far_shift(stage_state const& s, std::size_t base, float const* row) {
  float const* const lower_far = s.lower_far + base;
  float const* const upper_far = s.upper_far + base;
  lane_sums<1> sum{};
  for_lanes(s.live_count, [&](std::size_t c, std::size_t lane) {
    sum[0][lane] += static_cast<double>(row[c]) * static_cast<double>(row[c] >= 0 ? lower_far[c] : upper_far[c]);
  });
  return total(sum[0]);
}

/// Takes rows from the output of a stage to its head: a (in place, [rows, live]), value and slack. If `Finish`, `bound`
/// gets the lower bound of the row that interval arithmetic gives here if no other stage holds coefficients, far_bound
/// its upper bound by the same coefficients. `counts` false: value and slack stay, because another rank counts for all.
template <class R, bool Finish>
void relax_rows(row_block const& rows, stage_state const& s, float* a, bool counts = true) {
  std::size_t const live = s.live_count;
  [[maybe_unused]] double const share = 1 + gamma_sum(live);
  parallel_ranges(rows.count, 4, 2 * live, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      std::size_t const base = rows.box[r] * live;
      float const* const lower_slope = s.lower_slope + base;
      float const* const upper_slope = s.upper_slope + base;
      float const* const lower_shift = s.lower_shift + base;
      float const* const upper_shift = s.upper_shift + base;
      float const* const error = s.error + base;
      float const* const reach = s.reach + base;
      float* const row = a + r * live;
      double const far = rows.far_value == nullptr ? 0 : far_shift(s, base, row);
      lane_sums<3> sums{};
      for_lanes(live, [&](std::size_t c, std::size_t lane) {
        float const coefficient = row[c];
        bool const positive = coefficient >= 0;
        float const slope = positive ? lower_slope[c] : upper_slope[c];
        float const shift = positive ? lower_shift[c] : upper_shift[c];
        float const moved = coefficient * slope;
        row[c] = moved;
        sums[0][lane] += static_cast<double>(coefficient) * static_cast<double>(shift);  // exact product
        sums[1][lane] += static_cast<double>(std::fabs(coefficient)) * static_cast<double>(error[c]);
        if constexpr (Finish) sums[2][lane] += static_cast<double>(std::fabs(moved)) * static_cast<double>(reach[c]);
      });
      if (!counts) continue;
      rows.value[r] += total(sums[0]);
      double magnitude = std::fabs(rows.value[r]);
      if (rows.far_value != nullptr) {
        rows.far_value[r] += far;
        magnitude = std::max(magnitude, std::fabs(rows.far_value[r]));
      }
      if constexpr (R::outward) {
        double const more = total(sums[1]) * share + s.floor[rows.box[r]] + 2 * unit_double * magnitude;
        // neither is negative: one factor makes up for the addition, without the branches of up::add
        rows.slack[r] = (rows.slack[r] + more) * (1 + 4 * unit_double);
      }
      if constexpr (!Finish) continue;
      double distance = total(sums[2]);
      if constexpr (R::outward) {
        distance = up::add(distance * share, rows.slack[r]);
        rows.bound[r] = down::sub(rows.value[r], distance);
        if (rows.far_value != nullptr) rows.far_bound[r] = up::add(rows.far_value[r], distance);
      } else {
        rows.bound[r] = rows.value[r] - distance;
        if (rows.far_value != nullptr) rows.far_bound[r] = rows.far_value[r] + distance;
      }
    }
  });
}

}  // namespace hull::cpu
