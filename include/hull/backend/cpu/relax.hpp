// SPDX-License-Identifier: Apache-2.0
// Between the head and the output of a stage: which neurons need rows, the lines of the tail in centred form, and the
// step that takes rows from the output of a stage to its head.
#pragma once

#include <algorithm>
#include <cmath>

#include <hull/backend/cpu/lanes.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/cpu/sparse.hpp>
#include <hull/backend/lines.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cpu {

/// Drops the columns that are zero for every box, and moves the others together.
inline void compact(stage_state& s, std::size_t batch) {
  std::size_t const n = s.size;
  s.live_count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    bool live = false;
    for (std::size_t b = 0; b < batch && !live; ++b) {
      live = is_live(s, b * n + i);
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

/// What rounding can cost each live column per unit of |A|: in A * slope, in the head's backward product, and in sums
/// of shifts. `roundings` are counted for all n columns in the worst order. In a Linear head the live ones make fewer
/// chains, and terms that come late meet fewer roundings: c % chain fewer in their own chain, one fewer for each chain
/// added before.
inline void find_errors(stage_state& s, bool ordered, std::size_t batch, std::size_t roundings, bool rounded) {
  if (ordered) roundings -= product_additions(s.size) - product_additions(s.live_count);
  double const weight_error = rounded ? 1.001 * unit_float : 0;
  for (std::size_t c = 0; c < s.live_count; ++c) {
    double const product_error = ordered ? ordered_error(roundings, c) : gamma(roundings, unit_float);
    for (std::size_t b = 0; b < batch; ++b) {
      std::size_t const at = b * s.live_count + c;
      s.error[at] = column_error(s, at, s.size, product_error, weight_error);
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
        relax_element<S, R>(weights, s, b, i);
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
    sum[0][lane] += static_cast<double>(row[c]) * static_cast<double>(by_sign(row[c], lower_far[c], upper_far[c]));
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
        float const shift = by_sign(coefficient, lower_shift[c], upper_shift[c]);
        float const moved = coefficient * by_sign(coefficient, lower_slope[c], upper_slope[c]);
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
