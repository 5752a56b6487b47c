// SPDX-License-Identifier: Apache-2.0
// A matrix of which only live rows and columns take part in a product.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/propagate/state.hpp>

namespace hull::cuda {

/// B(k, j) = weight[rows[k] * stride + columns[j]]; `Transposed`: weight[rows[j] * stride + columns[k]].
/// Offsets are 32 bits wide: a matrix has less than 2^32 elements.
template <bool Transposed>
struct gathered final {
  float const* weight = nullptr;
  unsigned stride = 0;
  index_t const* rows = nullptr;
  index_t const* columns = nullptr;

  /// B(k, j) is column(j)[term_offset(k)].
  [[nodiscard]] __device__ unsigned term_offset(unsigned k) const { return Transposed ? columns[k] : rows[k] * stride; }
  [[nodiscard]] __device__ float const* column(unsigned j) const {
    return weight + (Transposed ? rows[j] * stride : columns[j]);
  }
};

}  // namespace hull::cuda
