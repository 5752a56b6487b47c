// SPDX-License-Identifier: Apache-2.0
// An image with every element repeated down and across (ONNX Upsample and Resize to the nearest).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t Down, std::size_t Across>
struct upsample_t final {
  static constexpr std::string_view name = "Upsample";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 3, "hull: Upsample takes [channels, height, width] (docs/errors.md#upsample)");
    static_assert(Down > 0 && Across > 0, "hull: Upsample by a factor of 0 (docs/errors.md#upsample)");
    return make_extents(In[0], In[1] * Down, In[2] * Across);
  }

  template <extents In>
  static constexpr std::size_t uses = Down* Across;

  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr std::size_t width = In[2] * Across;
    std::size_t const line = k / width, column = k % width;  // lines of all channels; each is repeated
    f(0, line / Down * In[2] + column / Across, 1.0f);
  }
};

template <std::size_t Down, std::size_t Across>
inline constexpr upsample_t<Down, Across> Upsample{};

}  // namespace hull
