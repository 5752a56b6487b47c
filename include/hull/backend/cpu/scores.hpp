// SPDX-License-Identifier: Apache-2.0
// Scores of the neurons that rows might split (propagate/split_candidates.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/split_candidates.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cpu {

/// The candidates of each row, of the stages that `stages` takes.
template <Network Net>
void score_rows(network_state<Net> const& state, free_state<Net> const& free, free_rows const& p,
                coefficient_views<Net> const& a, std::span<index_t const> rows,
                std::array<bool, stage_count<Net>> const& stages, std::span<split_candidates> found) {
  parallel_ranges(rows.size(), 1, 4 * p.width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      std::size_t const r = rows[i];
      index_t const* const taken = p.split_parameter + r * p.splits;
      index_t const* const taken_end = taken + p.split_count[r];
      split_candidates& best = found[i];
      for (std::size_t k = 1; k < stage_count<Net>; ++k) {
        if (!stages[k] || a[k] == nullptr) continue;
        float const* const row = a[k] + r * state.stage[k].live_count;
        free_columns const& f = free.stage[k];
        for (std::size_t c = 0; c < f.count; ++c) {
          float const x = row[f.column[c]];
          if (x == 0) continue;
          auto const score = score_of(f, c, x);
          if (!best.takes(0, score.change) && !best.takes(1, score.intercept)) continue;
          auto const parameter = static_cast<index_t>(f.offset + c);
          if (std::find(taken, taken_end, parameter) != taken_end) continue;
          best.offer(0, parameter, score.change);
          best.offer(1, parameter, score.intercept);
        }
      }
    }
  });
}

}  // namespace hull::cpu
