// SPDX-License-Identifier: Apache-2.0
// Weight matrices in blocks of columns: what ranks that hold a part of each matrix send each other at a time. Sums over
// columns are taken block by block on every machine, so that bounds do not depend on who holds what.
#pragma once

#include <algorithm>
#include <cstddef>

namespace hull {

/// Columns [first, last) of a matrix: element (row, column) is weight[row * stride + column - first].
struct column_block final {
  float const* weight = nullptr;
  std::size_t stride = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

#ifndef HULL_BLOCK_BYTES
#define HULL_BLOCK_BYTES 4194304
#endif

/// A block has about this size: large enough for a link's full rate, small beside a wide layer. The same in all parts
/// of a program; sums over the columns of wider matrices depend on it in their last bits.
inline constexpr std::size_t block_bytes = HULL_BLOCK_BYTES;

/// Blocks of a matrix [rows, columns] of about `bytes`, all of block_width columns but the last.
[[nodiscard]] constexpr std::size_t block_width(std::size_t rows, std::size_t columns,
                                                std::size_t bytes = block_bytes) {
  std::size_t const count = (rows * columns * sizeof(float) + bytes - 1) / bytes;
  std::size_t const even = (columns + count - 1) / count;
  return std::min(columns, (even + 31) / 32 * 32);  // whole vectors
}
[[nodiscard]] constexpr std::size_t block_count(std::size_t rows, std::size_t columns,
                                                std::size_t bytes = block_bytes) {
  std::size_t const width = block_width(rows, columns, bytes);
  return (columns + width - 1) / width;
}

/// Calls f(first, last) for the blocks of columns, in order.
template <class F>
constexpr void for_blocks(std::size_t rows, std::size_t columns, F&& f, std::size_t bytes = block_bytes) {
  std::size_t const width = block_width(rows, columns, bytes);
  for (std::size_t first = 0; first < columns; first += width) f(first, std::min(first + width, columns));
}

}  // namespace hull
