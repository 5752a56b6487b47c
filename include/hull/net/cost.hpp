// SPDX-License-Identifier: Apache-2.0
// What a pass through a network costs.
#pragma once

#include <cstddef>

#include <hull/net/fuse.hpp>
#include <hull/ops/head.hpp>

namespace hull {

/// Multiplications of the affine heads of stages 1 to `last`, for one point or one row.
template <Network Net>
[[nodiscard]] consteval std::size_t multiplications(std::size_t last = stage_count<Net> - 1) {
  std::size_t sum = 0;
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    using S = stage<Net, K>;
    if (K > last) return;
    if constexpr (HeadOf<typename S::head, linear_head>) sum += S::size * S::template operand<0>.size();
    if constexpr (HeadOf<typename S::head, conv_head>) {
      sum += S::size * S::head::filter.area() * S::template operand<0>[0] / S::head::filter.groups;
    }
  });
  return sum;
}

}  // namespace hull
