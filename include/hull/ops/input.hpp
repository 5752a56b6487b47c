// SPDX-License-Identifier: Apache-2.0
// The input of a network; its shape has no batch dimension.
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t... Dims>
struct input_t final {
  static constexpr std::string_view name = "Input";
  using kind = input_head;
  static constexpr extents shape = make_extents(Dims...);
};

}  // namespace hull
