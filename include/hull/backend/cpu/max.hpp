// SPDX-License-Identifier: Apache-2.0
// MaxPool on the CPU: each element follows one input, its pick; relax.hpp adds the line that covers the others.
#pragma once

#include <cmath>
#include <limits>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cpu {

/// Picks the input with the largest lower bound. As a function of the pick alone the head is exact: its origin is the
/// pick's centre, its radius the pick's spread.
template <class S>
void max_forward(stage_state const& x, stage_state const& y, std::size_t batch) {
  constexpr std::size_t n = S::size;
  parallel_ranges(n, 64, 16 * batch, [&](std::size_t first, std::size_t last) {
    for (std::size_t b = 0; b < batch; ++b) {
      float const* const centre = x.centre + b * x.size;
      float const* const spread = x.spread + b * x.size;
      auto const lower = [&](std::size_t i) { return down::sub(centre[i], spread[i]); };
      auto const upper = [&](std::size_t i) { return up::add(centre[i], spread[i]); };
      for (std::size_t k = first; k < last; ++k) {
        std::size_t pick = ~std::size_t{0};
        float largest_lower = 0, largest_upper = 0;
        S::head::template members<S::template operand<0>>(k, [&](std::size_t i) {
          float const low = lower(i), high = upper(i);
          bool const start = pick == ~std::size_t{0};
          if (start || low > largest_lower) pick = i;
          // NaN must survive: nothing is known of the maximum then
          largest_lower = start || low > largest_lower || std::isnan(low) ? low : largest_lower;
          largest_upper = start || high > largest_upper || std::isnan(high) ? high : largest_upper;
        });
        bool certain = true;
        S::head::template members<S::template operand<0>>(
            k, [&](std::size_t i) { certain = certain && (i == pick || upper(i) <= largest_lower); });
        std::size_t const at = b * n + k;
        y.pick[at] = static_cast<index_t>(pick);
        y.ceiling[at] = certain ? -std::numeric_limits<float>::infinity() : largest_upper;
        y.origin[at] = centre[pick];
        y.origin_error[at] = 0;
        y.radius[at] = spread[pick];
        y.lower[at] = largest_lower;
        y.upper[at] = largest_upper;
      }
    }
  });
}

/// The operand's coefficients must have been set to zero or by other stages before.
inline void max_backward(row_block const& rows, stage_state const& y, float const* a_y, stage_state const& x,
                         float* a_x) {
  parallel_ranges(rows.count, 1, 2 * y.live_count, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      index_t const* const pick = y.pick + rows.box[r] * y.size;
      float const* const row = a_y + r * y.live_count;
      float* const out = a_x + r * x.live_count;
      for (std::size_t c = 0; c < y.live_count; ++c) {
        index_t const slot = x.slot[pick[y.live[c]]];
        if (slot != stage_state::dead) out[slot] += row[c];
      }
    }
  });
}

}  // namespace hull::cpu
