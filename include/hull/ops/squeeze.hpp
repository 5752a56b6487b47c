// SPDX-License-Identifier: Apache-2.0
// Removes axes of length 1 (ONNX Squeeze).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t... Axes>
struct squeeze_t final {
  static constexpr std::string_view name = "Squeeze";
  using kind = view_head;

  template <extents In>
  static consteval extents output() {
    static_assert(((Axes < In.rank && In.dims[Axes] == 1) && ...),
                  "hull: Squeeze removes axes of length 1 only (docs/errors.md#squeeze)");
    extents out;
    for (std::size_t axis = 0; axis < In.rank; ++axis) {
      if (((axis != Axes) && ...)) out.dims[out.rank++] = In.dims[axis];
    }
    return out;
  }
};

template <std::size_t... Axes>
inline constexpr squeeze_t<Axes...> Squeeze{};

}  // namespace hull
