// SPDX-License-Identifier: Apache-2.0
// Mean of each channel (ONNX GlobalAveragePool).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

struct global_average_pool_t final {
  static constexpr std::string_view name = "GlobalAveragePool";
  using kind = sparse_head;
  static constexpr bool exact = false;  // 1 / count is rounded

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank >= 2, "hull: GlobalAveragePool takes [channels, ...] (docs/errors.md#pool)");
    extents out = In;
    for (std::size_t axis = 1; axis < out.rank; ++axis) out.dims[axis] = 1;
    return out;
  }

  template <extents In>
  static constexpr std::size_t uses = 1;

  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr std::size_t count = In.size() / In[0];
    for (std::size_t i = 0; i < count; ++i) f(0, k * count + i, 1.0f / static_cast<float>(count));
  }
};
inline constexpr global_average_pool_t GlobalAveragePool{};

}  // namespace hull
