// SPDX-License-Identifier: Apache-2.0
// Heads' intervals given to and taken from a propagation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <hull/propagate/state.hpp>

namespace hull::cpu {

/// Intersects the intervals of a head with known ones: [b] lists of `size` lower and `size` upper bounds, null where
/// nothing is known. Sound if those hold for a box around the one at hand. NaN changes nothing.
inline void narrow_head(stage_state const& s, std::span<float const* const> known, std::size_t offset) {
  for (std::size_t b = 0; b < known.size(); ++b) {
    if (known[b] == nullptr) continue;
    float const* const lower = known[b] + offset;
    float const* const upper = lower + s.size;
    float* const to_lower = s.lower + b * s.size;
    float* const to_upper = s.upper + b * s.size;
    for (std::size_t i = 0; i < s.size; ++i) {
      float const low = lower[i] > to_lower[i] ? lower[i] : to_lower[i];
      float const up = upper[i] < to_upper[i] ? upper[i] : to_upper[i];
      bool const meet = low <= up;  // they do under `Outward`
      to_lower[i] = meet ? low : to_lower[i];
      to_upper[i] = meet ? up : to_upper[i];
    }
  }
}

/// Copies the intervals of the head for box b to such a list.
inline void keep_head(stage_state const& s, std::size_t b, float* known) {
  std::copy_n(s.lower + b * s.size, s.size, known);
  std::copy_n(s.upper + b * s.size, s.size, known + s.size);
}

}  // namespace hull::cpu
