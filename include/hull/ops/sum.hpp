// SPDX-License-Identifier: Apache-2.0
// Sum and difference of two values of the same shape: `a + b`, `a - b` (ONNX Add and Sub, residual connections).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <int Sign>
struct sum_t final {
  static constexpr std::string_view name = Sign > 0 ? "Add" : "Sub";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents A, extents B>
  static consteval extents output() {
    static_assert(A == B, "hull: the two operands of + or - have different shapes (docs/errors.md#sum)");
    return A;
  }

  template <extents A, extents B>
  static constexpr std::size_t uses = 1;

  template <extents A, extents B, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    f(0, k, 1.0f);
    f(1, k, static_cast<float>(Sign));
  }
};

}  // namespace hull
