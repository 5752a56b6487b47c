// SPDX-License-Identifier: Apache-2.0
// The same numbers as a vector (ONNX Flatten after the batch dimension).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

struct flatten_t final {
  static constexpr std::string_view name = "Flatten";
  using kind = view_head;

  template <extents In>
  static consteval extents output() {
    return make_extents(In.size());
  }
};
inline constexpr flatten_t Flatten{};

}  // namespace hull
