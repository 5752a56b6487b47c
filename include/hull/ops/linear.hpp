// SPDX-License-Identifier: Apache-2.0
// y = W x + b on a vector (ONNX Gemm, and MatMul by a constant).
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/head.hpp>

namespace hull {

template <fixed_string Layer, std::size_t Out>
struct linear_t final {
  static constexpr std::string_view name = "Linear";
  static constexpr std::string_view layer = Layer.view();
  using kind = linear_head;
  /// With 1/P of the outputs, rounded up (net/divide.hpp).
  template <std::size_t P>
  using part = linear_t<Layer, (Out + P - 1) / P>;

  template <extents In>
  static consteval extents output() {
    static_assert(In.rank == 1, "hull: Linear takes a vector; put Flatten before it (docs/errors.md#linear)");
    return make_extents(Out);
  }

  /// weight [Out, In], row major; bias [Out]
  template <extents In>
  static constexpr std::array<parameter_tensor, 2> parameters{{{"weight", Out* In.size()}, {"bias", Out}}};
};

template <fixed_string Layer, std::size_t Out>
inline constexpr linear_t<Layer, Out> Linear{};

}  // namespace hull
