// SPDX-License-Identifier: Apache-2.0
// Backward through sparse and max heads. A row is one block. Where no two elements of the head read the same element of
// an operand, threads take elements in any order; else one thread goes through all: the order of additions is fixed.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/rows.cuh>

namespace hull::cuda {

/// Calls body(c) for the elements that this thread takes: all in some thread each, or all in the first.
template <bool Apart, class Body>
__device__ void for_elements(std::size_t count, Body&& body) {
  if (!Apart && threadIdx.x != 0) return;
  for (std::size_t c = Apart ? threadIdx.x : 0; c < count; c += Apart ? blockDim.x : 1) body(c);
}

template <class S>
__global__ void sparse_backward_kernel(stage_state y, float const* a_y, operand_states<S> x, operand_rows<S> a) {
  std::size_t const r = blockIdx.x;
  float const* const row = a_y + r * y.live_count;
  for (std::size_t operand = 0; operand < S::input_count; ++operand) {  // two may be the same stage
    for_elements<uses_of<S>() == 1>(y.live_count, [&](std::size_t c) {
      float const value = row[c];
      if (value == 0) return;
      for_terms<S>(y.live[c], [&](std::size_t input, std::size_t index, float coefficient) {
        if (input != operand) return;
        index_t const slot = x.of[input].slot[index];
        if (slot != stage_state::dead) a.of[input][r * x.of[input].live_count + slot] += value * coefficient;
      });
    });
    __syncthreads();
  }
}

template <class S>
__global__ void max_backward_kernel(row_block rows, stage_state y, float const* a_y, stage_state x, float* a_x) {
  std::size_t const r = blockIdx.x;
  index_t const* const pick = y.pick + rows.box[r] * y.size;
  for_elements<uses_of<S>() == 1>(y.live_count, [&](std::size_t c) {
    index_t const slot = x.slot[pick[y.live[c]]];
    if (slot != stage_state::dead) a_x[r * x.live_count + slot] += a_y[r * y.live_count + c];
  });
}

/// The operands' coefficients must have been set to zero or by other stages before.
template <class S>
void sparse_backward(cudaStream_t stream, std::size_t rows, stage_state const& y, float const* a_y,
                     operands<S, stage_state const*> const& x, operands<S, float*> const& a) {
  if (rows == 0) return;
  sparse_backward_kernel<S><<<static_cast<unsigned>(rows), 128, 0, stream>>>(y, a_y, by_value<S>(x), by_value<S>(a));
  check_launch("sparse_backward");
}
template <class S>
void max_backward(cudaStream_t stream, row_block const& rows, stage_state const& y, float const* a_y,
                  stage_state const& x, float* a_x) {
  if (rows.count == 0) return;
  max_backward_kernel<S><<<static_cast<unsigned>(rows.count), 128, 0, stream>>>(rows, y, a_y, x, a_x);
  check_launch("max_backward");
}

/// Deviations of a sparse head: as cpu::sparse_points. `d_y` [rows, live y] is overwritten.
template <class S>
__global__ void sparse_points_kernel(operand_states<S> x, operand_rows<S> d, stage_state y, float* d_y) {
  std::size_t const r = blockIdx.x;
  for (std::size_t c = threadIdx.x; c < y.live_count; c += blockDim.x) {
    float sum = 0;
    for_terms<S>(y.live[c], [&](std::size_t input, std::size_t index, float coefficient) {
      index_t const slot = x.of[input].slot[index];
      if (slot != stage_state::dead) sum += coefficient * d.of[input][r * x.of[input].live_count + slot];
    });
    d_y[r * y.live_count + c] = sum;
  }
}

static __global__ void max_points_kernel(row_block rows, stage_state x, float const* d_x, stage_state y, float* d_y) {
  std::size_t const r = blockIdx.x;
  index_t const* const pick = y.pick + rows.box[r] * y.size;
  for (std::size_t c = threadIdx.x; c < y.live_count; c += blockDim.x) {
    index_t const slot = x.slot[pick[y.live[c]]];
    d_y[r * y.live_count + c] = slot == stage_state::dead ? 0 : d_x[r * x.live_count + slot];
  }
}

}  // namespace hull::cuda
