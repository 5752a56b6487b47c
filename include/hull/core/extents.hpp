// SPDX-License-Identifier: Apache-2.0
// The shape of one value of a network, without the batch dimension, row major.
#pragma once

#include <array>
#include <cstddef>

#include <hull/core/config.hpp>

namespace hull {

/// A structural type, so that shapes are template arguments and compilers print them in their messages.
struct extents final {
  static constexpr std::size_t max_rank = 6;

  std::size_t rank = 0;
  std::size_t dims[max_rank]{};

  [[nodiscard]] HULL_FN constexpr std::size_t operator[](std::size_t axis) const { return dims[axis]; }

  /// Number of elements.
  [[nodiscard]] HULL_FN constexpr std::size_t size() const {
    std::size_t product = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) product *= dims[axis];
    return product;
  }

  /// Distance in memory between neighbours along `axis`.
  [[nodiscard]] HULL_FN constexpr std::size_t stride(std::size_t axis) const {
    std::size_t product = 1;
    for (std::size_t behind = axis + 1; behind < rank; ++behind) product *= dims[behind];
    return product;
  }

  [[nodiscard]] friend constexpr bool operator==(extents const&, extents const&) = default;
};

/// make_extents(3, 32, 32)
template <class... Dims>
[[nodiscard]] constexpr extents make_extents(Dims... dims) {
  static_assert(sizeof...(Dims) <= extents::max_rank, "hull: a shape has at most 6 dimensions (docs/errors.md#shapes)");
  return extents{sizeof...(Dims), {static_cast<std::size_t>(dims)...}};
}

}  // namespace hull
