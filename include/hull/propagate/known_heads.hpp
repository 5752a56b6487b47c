// SPDX-License-Identifier: Apache-2.0
// Bounds of heads that are known before a propagation starts: those of a box around the one at hand.
#pragma once

#include <array>
#include <cstddef>

#include <hull/propagate/propagation.hpp>

namespace hull {

/// Where the bounds of each stage lie in one list of floats per box: [size] lower, then [size] upper. Only stages that
/// would send rows for them are kept; the intervals of the others are computed again for next to nothing.
template <Network Net>
struct known_heads final {
  static constexpr std::size_t nowhere = ~std::size_t{0};

  struct layout final {
    std::array<std::size_t, stage_count<Net>> offset{};
    std::size_t floats = 0;
  };

  static constexpr layout plan = [] {
    layout all;
    all.offset.fill(nowhere);
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      if constexpr (detail::needs_rows<Net, K>()) {
        all.offset[K] = all.floats;
        all.floats += 2 * stage<Net, K>::size;
      }
    });
    return all;
  }();
  static constexpr std::size_t floats = plan.floats;  // per box
};

}  // namespace hull
