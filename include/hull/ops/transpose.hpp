// SPDX-License-Identifier: Apache-2.0
// Permutes the axes: axis i of the output is axis Perm[i] of the input (ONNX Transpose, batch left out).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t... Perm>
struct transpose_t final {
  static constexpr std::string_view name = "Transpose";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents In>
  static consteval extents output() {
    static_assert(sizeof...(Perm) == In.rank && permutation(),
                  "hull: Transpose takes each axis of its operand once (docs/errors.md#transpose)");
    return make_extents(In[Perm]...);
  }

  template <extents In>
  static constexpr std::size_t uses = 1;

  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr std::size_t strides[] = {In.stride(Perm)...};
    constexpr extents out = output<In>();
    std::size_t from = 0;
    for (std::size_t axis = out.rank; axis-- > 0; k /= out.dims[axis]) from += k % out.dims[axis] * strides[axis];
    f(0, from, 1.0f);
  }

 private:
  static consteval bool permutation() {
    bool seen[sizeof...(Perm)]{};
    bool inside = ((Perm < sizeof...(Perm)) && ...);
    if (inside) ((seen[Perm] = true), ...);
    for (bool one : seen) inside = inside && one;
    return inside;
  }
};

template <std::size_t... Perm>
inline constexpr transpose_t<Perm...> Transpose{};

}  // namespace hull
