// SPDX-License-Identifier: Apache-2.0
// One block of memory from which all buffers of a propagation are carved, first in, last out.
#pragma once

#include <cstddef>
#include <string>

#include <hull/core/error.hpp>

namespace hull {

/// Borrows a block and hands out parts of it, each aligned to 64 bytes. Without a block it only counts: the same code
/// that carves buffers then computes, also at compile time, how many bytes it will need.
class arena final {
 public:
  static constexpr std::size_t alignment = 64;

  constexpr arena() = default;
  constexpr arena(std::byte* block, std::size_t bytes) : block_(block), capacity_(bytes) {}

  /// Room for `count` objects of T, not initialised. Throws hull::error if the block is too small.
  template <class T>
  [[nodiscard]] constexpr T* take(std::size_t count) {
    std::size_t const at = used_;
    used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
    if (used_ > peak_) peak_ = used_;
    if (block_ == nullptr) return nullptr;
    if (used_ > capacity_) {
      throw error("arena: " + std::to_string(used_) + " bytes needed, " + std::to_string(capacity_) + " planned",
                  fault::device);
    }
    return reinterpret_cast<T*>(block_ + at);
  }

  /// Gives back everything taken since `used()` was `mark`.
  constexpr void release(std::size_t mark) { used_ = mark; }

  [[nodiscard]] constexpr std::size_t used() const { return used_; }
  [[nodiscard]] constexpr std::size_t peak() const { return peak_; }
  [[nodiscard]] constexpr std::size_t capacity() const { return capacity_; }

 private:
  std::byte* block_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;
};

}  // namespace hull
