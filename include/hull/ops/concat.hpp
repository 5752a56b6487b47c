// SPDX-License-Identifier: Apache-2.0
// Joins values along one axis (ONNX Concat).
#pragma once

#include <array>

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t Axis>
struct concat_t final {
  static constexpr std::string_view name = "Concat";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents First, extents... Rest>
  static consteval extents output() {
    static_assert(Axis < First.rank,
                  "hull: Concat along an axis that its operands do not have (docs/errors.md#concat)");
    static_assert((joins<First, Rest>() && ...),
                  "hull: the operands of Concat differ in another axis than the joined one (docs/errors.md#concat)");
    extents out = First;
    ((out.dims[Axis] += Rest.dims[Axis]), ...);
    return out;
  }

  template <extents... In>
  static constexpr std::size_t uses = 1;

  template <extents... In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr extents out = output<In...>();
    constexpr std::size_t inner = out.stride(Axis);
    constexpr std::size_t lengths[] = {In.dims[Axis]...};
    std::size_t const outer = k / (inner * out.dims[Axis]);
    std::size_t at = k / inner % out.dims[Axis];
    std::size_t input = 0;
    while (at >= lengths[input]) at -= lengths[input++];
    f(input, (outer * lengths[input] + at) * inner + k % inner, 1.0f);
  }

 private:
  template <extents A, extents B>
  static consteval bool joins() {
    extents b = B;
    if (A.rank != B.rank) return false;
    b.dims[Axis] = A.dims[Axis];
    return A == b;
  }
};

}  // namespace hull
