// SPDX-License-Identifier: Apache-2.0
// 2-D convolution with stride, zero padding, dilation and groups (ONNX Conv; Conv1d has height 1).
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/head.hpp>
#include <hull/ops/window.hpp>

namespace hull {

template <fixed_string Layer, std::size_t Out, class... Options>
struct conv_t final {
  static constexpr std::string_view name = "Conv";
  static constexpr std::string_view layer = Layer.view();
  using kind = conv_head;
  /// With 1/P of the filters, rounded up (net/divide.hpp).
  template <std::size_t P>
  using part = conv_t<Layer, (Out + P - 1) / P, Options...>;
  static constexpr window filter = make_window<Options...>();

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 3, "hull: Conv takes [channels, height, width] (docs/errors.md#conv)");
    static_assert(filter.valid(),
                  "hull: kernel, stride, dilation and groups of a Conv are at least 1 (docs/errors.md#conv)");
    static_assert(In[0] % filter.groups == 0 && Out % filter.groups == 0,
                  "hull: groups of a Conv must divide its input and output channels (docs/errors.md#conv)");
    static_assert(filter.fits(In),
                  "hull: the kernel of this Conv is larger than its padded input (docs/errors.md#conv)");
    return make_extents(Out, filter.out_h(In), filter.out_w(In));
  }

  /// weight [Out, In / groups, kernel height, kernel width]; bias [Out]
  template <extents In>
  static constexpr std::array<parameter_tensor, 2> parameters{
      {{"weight", Out*(In[0] / filter.groups) * filter.area()}, {"bias", Out}}};
};

template <fixed_string Layer, std::size_t Out, class... Options>
inline constexpr conv_t<Layer, Out, Options...> Conv{};

}  // namespace hull
