// SPDX-License-Identifier: Apache-2.0
// Maximum of a window, any kernel, stride, padding and dilation (ONNX MaxPool). Padding never wins.
//
// Relaxation on windows with inputs in [l, u], i* the input with the largest lower bound:
//   max >= y_i*;   max <= y_i* if l_i* is at least every other upper bound, else max <= the largest upper bound.
#pragma once

#include <hull/ops/head.hpp>
#include <hull/ops/window.hpp>

namespace hull {

template <class... Options>
struct max_pool_t final {
  static constexpr std::string_view name = "MaxPool";
  using kind = max_head;
  static constexpr window filter = make_window<Options...>();

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 3, "hull: MaxPool takes [channels, height, width] (docs/errors.md#pool)");
    static_assert(filter.valid() && filter.fits(In),
                  "hull: the kernel of this MaxPool is larger than its padded input (docs/errors.md#pool)");
    static_assert(filter.touches(In), "hull: a window of this MaxPool lies in the padding alone (docs/errors.md#pool)");
    return make_extents(In[0], filter.out_h(In), filter.out_w(In));
  }

  template <extents In>
  static constexpr std::size_t uses = filter.overlap();

  /// Calls f(index) for every input element in the window of output element k.
  template <extents In, class F>
  HULL_FN static void members(std::size_t k, F&& f) {
    constexpr window places = filter;  // device code sees no static members
    constexpr std::size_t h = places.out_h(In), w = places.out_w(In);
    std::size_t const channel = k / (h * w), i = k / w % h, j = k % w;
    places.covered(In, i, j, [&](std::size_t y, std::size_t x) { f((channel * In[1] + y) * In[2] + x); });
  }
};

template <class... Options>
inline constexpr max_pool_t<Options...> MaxPool{};

}  // namespace hull
