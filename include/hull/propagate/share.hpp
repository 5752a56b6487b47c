// SPDX-License-Identifier: Apache-2.0
// Parts of lists, as ranks divide them.
#pragma once

#include <algorithm>
#include <cstddef>

#include <hull/core/config.hpp>

namespace hull {

/// A part [first, last) of a list.
struct row_range final {
  std::size_t first = 0;
  std::size_t last = 0;

  [[nodiscard]] HULL_FN constexpr std::size_t size() const { return last - first; }
};

/// The part of `count` things that belongs to a rank. Sizes differ by one at most, the first ranks have the larger
/// ones.
[[nodiscard]] HULL_FN constexpr row_range share_of(std::size_t count, std::size_t rank, std::size_t ranks) {
  std::size_t const each = count / ranks, more = count % ranks;
  std::size_t const first = rank * each + (rank < more ? rank : more);
  return {first, first + each + (rank < more ? 1 : 0)};
}

/// The size of the largest part.
[[nodiscard]] constexpr std::size_t largest_share(std::size_t count, std::size_t ranks) {
  return (count + ranks - 1) / ranks;
}

}  // namespace hull
