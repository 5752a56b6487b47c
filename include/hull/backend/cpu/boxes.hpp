// SPDX-License-Identifier: Apache-2.0
// The input stage.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/backend/cpu/relax.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cpu {

/// Sets the input stage to the boxes, [b] with one range per input, rounded outward to floats.
inline void load_boxes(stage_state& s, std::span<std::vector<input_range> const* const> boxes) {
  for (std::size_t b = 0; b < boxes.size(); ++b) {
    for (std::size_t i = 0; i < s.size; ++i) {
      std::size_t const at = b * s.size + i;
      input_range const range = (*boxes[b])[i];
      float const lower = down::from_double(range.lower), upper = up::from_double(range.upper);
      float const centre = static_cast<float>(0.5 * (static_cast<double>(lower) + static_cast<double>(upper)));
      s.lower[at] = lower;
      s.upper[at] = upper;
      s.centre[at] = centre;
      s.spread[at] = std::max(up::sub(upper, centre), up::sub(centre, lower));
      s.origin[at] = centre;
      s.origin_error[at] = 0;
      s.radius[at] = s.spread[at];
      s.lower_slope[at] = s.upper_slope[at] = 1;
      s.lower_shift[at] = s.upper_shift[at] = s.lower_far[at] = s.upper_far[at] = s.error[at] = 0;
    }
  }
  compact(s, boxes.size());
  std::fill_n(s.floor, boxes.size(), 0.0);
}

}  // namespace hull::cpu
