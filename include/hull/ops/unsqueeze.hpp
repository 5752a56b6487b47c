// SPDX-License-Identifier: Apache-2.0
// Inserts axes of length 1, counted in the output (ONNX Unsqueeze).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t... Axes>
struct unsqueeze_t final {
  static constexpr std::string_view name = "Unsqueeze";
  using kind = view_head;

  template <extents In>
  static consteval extents output() {
    constexpr std::size_t rank = In.rank + sizeof...(Axes);
    static_assert(rank <= extents::max_rank && ((Axes < rank) && ...),
                  "hull: Unsqueeze inserts axes inside its output, which has at most 6 (docs/errors.md#squeeze)");
    extents out{rank, {}};
    std::size_t from = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) out.dims[axis] = ((axis == Axes) || ...) ? 1 : In.dims[from++];
    return out;
  }
};

template <std::size_t... Axes>
inline constexpr unsqueeze_t<Axes...> Unsqueeze{};

}  // namespace hull
