// SPDX-License-Identifier: Apache-2.0
// Which heads send rows for tighter bounds, and how such bounds are kept for other boxes inside the one at hand.
#pragma once

#include <array>
#include <cstddef>

#include <hull/net/fuse.hpp>

namespace hull {

namespace detail {

/// Whether a max head reads stage K: then tighter bounds help even where the tail is linear.
template <Network Net, std::size_t K>
consteval bool feeds_max() {
  bool feeds = false;
  for_each_stage<K + 1, stage_count<Net>>([&]<std::size_t J> {
    if constexpr (HeadOf<typename stage<Net, J>::head, max_head>)
      feeds = feeds || stage<Net, J>::template input<0> == K;
  });
  return feeds;
}

/// Whether backward rows can improve on interval arithmetic at the head of stage K. They cannot where the head is an
/// affine function of the box itself: there intervals are exact.
template <Network Net, std::size_t K>
consteval bool needs_rows() {
  using S = stage<Net, K>;
  if constexpr (HeadOf<typename S::head, input_head> || HeadOf<typename S::head, max_head>) return false;
  if (S::input_count == 1 && S::info.inputs[0] == 0) return false;
  return S::info.tail_count > 0 || feeds_max<Net, K>();
}

}  // namespace detail

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
