// SPDX-License-Identifier: Apache-2.0
// An image with zeros between its elements, which are then `Down` and `Across` apart: what a transposed convolution
// convolves (ONNX ConvTranspose).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t Down, std::size_t Across>
struct spread_t final {
  static constexpr std::string_view name = "Spread";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 3, "hull: Spread takes [channels, height, width] (docs/errors.md#upsample)");
    static_assert(Down > 0 && Across > 0, "hull: Spread by a step of 0 (docs/errors.md#upsample)");
    return make_extents(In[0], (In[1] - 1) * Down + 1, (In[2] - 1) * Across + 1);
  }

  template <extents In>
  static constexpr std::size_t uses = 1;

  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr extents out = output<In>();
    std::size_t const channel = k / (out[1] * out[2]), i = k / out[2] % out[1], j = k % out[2];
    if (i % Down == 0 && j % Across == 0) f(0, (channel * In[1] + i / Down) * In[2] + j / Across, 1.0f);
  }
};

template <std::size_t Down, std::size_t Across>
inline constexpr spread_t<Down, Across> Spread{};

}  // namespace hull
