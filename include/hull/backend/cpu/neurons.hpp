// SPDX-License-Identifier: Apache-2.0
// Which neurons of a stage send rows, and what becomes of their bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <hull/core/arena.hpp>
#include <hull/propagate/share.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cpu {

/// Lists the neurons that `gains(box, neuron)` names, box after box. Returns their number.
template <class Gains>
std::size_t find_candidates(stage_state const& s, std::size_t batch, index_t* candidates, Gains&& gains) {
  std::size_t count = 0;
  for (std::size_t b = 0; b < batch; ++b) {
    std::size_t const first = count;
    for (std::size_t i = 0; i < s.size; ++i) {
      if (gains(b, i)) candidates[count++] = static_cast<index_t>(b * s.size + i);
    }
    if ((count - first) * 10 <= s.size * 9) continue;
    // almost all: the rest is cheap, and tighter intervals of stable neurons help the layers behind a little
    count = first;
    for (std::size_t i = 0; i < s.size; ++i) candidates[count++] = static_cast<index_t>(b * s.size + i);
  }
  return count;
}

/// Rows 2p and 2p + 1 for the lower and upper bound of neurons[p].
inline void name_both(stage_state const& s, index_t const* neurons, row_block const& rows) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    rows.box[r] = static_cast<index_t>(neurons[r / 2] / s.size);
    rows.index[r] = static_cast<index_t>(neurons[r / 2] % s.size);
    rows.sign[r] = r % 2 == 0 ? 1.0f : -1.0f;
  }
}

/// One row for each neuron, for the bound nearer to 0.
inline void name_nearer(stage_state const& s, index_t const* neurons, row_block const& rows) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    std::size_t const at = neurons[r];
    rows.box[r] = static_cast<index_t>(at / s.size);
    rows.index[r] = static_cast<index_t>(at % s.size);
    rows.sign[r] = -s.lower[at] < s.upper[at] ? 1.0f : -1.0f;
  }
}

/// Turns the rows of the neurons that `gains(box, neuron)` still names around, and drops the others.
template <class Gains>
void name_opposite(row_block& rows, Gains&& gains) {
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (!gains(rows.box[r], rows.index[r])) continue;
    rows.box[count] = rows.box[r];
    rows.index[count] = rows.index[r];
    rows.sign[count] = -rows.sign[r];
    ++count;
  }
  rows.count = count;
}

/// Intersects the intervals with both bounds of each row. A bound that is NaN changes nothing. A row with sign 0 is
/// about a neuron of another rank.
inline void refine_nearer(stage_state const& s, row_block const& rows) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (rows.sign[r] == 0) continue;
    std::size_t const at = rows.box[r] * s.size + rows.index[r];
    bool const upright = rows.sign[r] > 0;
    float const lower = down::from_double(upright ? rows.bound[r] : -rows.far_bound[r]);
    float const upper = up::from_double(upright ? rows.far_bound[r] : -rows.bound[r]);
    float const new_lower = lower > s.lower[at] ? lower : s.lower[at];
    float const new_upper = upper < s.upper[at] ? upper : s.upper[at];
    if (!(new_lower <= new_upper)) continue;  // rounding under `Nearest`; impossible under `Outward`
    s.lower[at] = new_lower;
    s.upper[at] = new_upper;
  }
}

/// Gives the bounds of rows as name_both names them to the intervals: intersects, or replaces if not `intersect`.
/// A bound that is NaN changes nothing.
inline void refine(stage_state const& s, row_block const& rows, bool intersect) {
  for (std::size_t r = 0; r + 1 < rows.count; r += 2) {
    if (rows.sign[r] == 0) continue;
    std::size_t const at = rows.box[r] * s.size + rows.index[r];
    float const lower = down::from_double(rows.bound[r]), upper = up::from_double(-rows.bound[r + 1]);
    bool const replace = !intersect && std::isfinite(lower) && std::isfinite(upper);
    float const new_lower = replace || lower > s.lower[at] ? lower : s.lower[at];
    float const new_upper = replace || upper < s.upper[at] ? upper : s.upper[at];
    if (!(new_lower <= new_upper)) continue;  // rounding under `Nearest`; impossible under `Outward`
    s.lower[at] = new_lower;
    s.upper[at] = new_upper;
  }
}

/// Gives every rank the intervals of neurons[0, count), of which each rank has refined its share.
/// Takes (2 count + 2) floats for each of two ranks at most from `memory`.
template <class Member>
void gather_intervals(Member const& member, stage_state const& s, index_t const* neurons, std::size_t count,
                      arena& memory) {
  std::size_t const each = 2 * member.most(count);
  float* const parts = memory.take<float>(each * member.ranks());
  float* const own = parts + member.rank() * each;
  row_range const mine = member.share(count);
  for (std::size_t i = mine.first; i < mine.last; ++i) {
    own[2 * (i - mine.first)] = s.lower[neurons[i]];
    own[2 * (i - mine.first) + 1] = s.upper[neurons[i]];
  }
  member.all_gather(own, parts, each);
  for (std::size_t r = 0; r < member.ranks(); ++r) {
    row_range const part = share_of(count, r, member.ranks());
    for (std::size_t i = part.first; i < part.last; ++i) {
      s.lower[neurons[i]] = parts[r * each + 2 * (i - part.first)];
      s.upper[neurons[i]] = parts[r * each + 2 * (i - part.first) + 1];
    }
  }
}

}  // namespace hull::cpu
