// SPDX-License-Identifier: Apache-2.0
// Products of rows with a stage's matrix, at the precision that the stage has.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/product.cuh>
#include <hull/backend/cuda/tensor_product.cuh>

namespace hull::cuda {

/// C (+)= A B, see product.cuh, on tensor cores or without.
template <bool Tensor, bool Transposed>
void multiply_rows(device const& at, float const* a, std::size_t rows, std::size_t terms, gathered<Transposed> const& b,
                   std::size_t columns, float* c, std::size_t c_stride, bool overwrite) {
  if constexpr (Tensor) {
    tensor_product(at.stream(), at.processors(), a, rows, terms, b, columns, c, c_stride, overwrite);
  } else {
    product(at.stream(), at.processors(), a, rows, terms, b, columns, c, c_stride, overwrite);
  }
}

}  // namespace hull::cuda
