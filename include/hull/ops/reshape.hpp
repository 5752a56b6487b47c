// SPDX-License-Identifier: Apache-2.0
// The same numbers in another shape (ONNX Reshape).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t... Dims>
struct reshape_t final {
  static constexpr std::string_view name = "Reshape";
  using kind = view_head;

  template <extents In>
  static consteval extents output() {
    static_assert(make_extents(Dims...).size() == In.size(),
                  "hull: Reshape cannot change the number of elements (docs/errors.md#reshape)");
    return make_extents(Dims...);
  }
};

template <std::size_t... Dims>
inline constexpr reshape_t<Dims...> Reshape{};

}  // namespace hull
