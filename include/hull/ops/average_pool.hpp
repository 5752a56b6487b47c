// SPDX-License-Identifier: Apache-2.0
// Mean of a window (ONNX AveragePool); the padding counts unless `exclude_pad` is given.
#pragma once

#include <hull/ops/head.hpp>
#include <hull/ops/window.hpp>

namespace hull {

template <class... Options>
struct average_pool_t final {
  static constexpr std::string_view name = "AveragePool";
  using kind = sparse_head;
  static constexpr window filter = make_window<Options...>();
  static constexpr bool exact = false;  // 1 / count is rounded

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 3, "hull: AveragePool takes [channels, height, width] (docs/errors.md#pool)");
    static_assert(filter.valid() && filter.fits(In),
                  "hull: the kernel of this AveragePool is larger than its padded input (docs/errors.md#pool)");
    static_assert(filter.count_pad || filter.touches(In),
                  "hull: a window of this AveragePool lies in the padding alone (docs/errors.md#pool)");
    return make_extents(In[0], filter.out_h(In), filter.out_w(In));
  }

  /// Most contributions that one input element gets in a backward pass.
  template <extents In>
  static constexpr std::size_t uses = filter.overlap();

  /// Calls f(input, index, coefficient) for every term of output element k.
  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr window places = filter;  // device code sees no static members
    constexpr std::size_t h = places.out_h(In), w = places.out_w(In);
    std::size_t const channel = k / (h * w), i = k / w % h, j = k % w;
    std::size_t count = places.area();
    if constexpr (!places.count_pad) {
      count = 0;
      places.covered(In, i, j, [&](std::size_t, std::size_t) { ++count; });
    }
    float const coefficient = 1.0f / static_cast<float>(count);
    places.covered(In, i, j,
                   [&](std::size_t y, std::size_t x) { f(0, (channel * In[1] + y) * In[2] + x, coefficient); });
  }
};

template <class... Options>
inline constexpr average_pool_t<Options...> AveragePool{};

}  // namespace hull
