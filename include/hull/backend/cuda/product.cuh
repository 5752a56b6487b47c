// SPDX-License-Identifier: Apache-2.0
// C [rows, columns] (+)= A [rows, terms] B in single precision, B gathered from live rows and columns of a matrix while
// it is loaded. Every element is summed in the order of backend/summation.hpp, whatever the kernel: it depends neither
// on the number of rows nor on the tile's shape. This file has the kernel for many rows; chain_product.cuh that for
// few.
#pragma once

#include <cstddef>
#include <cuda_pipeline.h>

#include <hull/backend/cuda/chain_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/summation.hpp>

namespace hull::cuda {

/// A tile of C is 128 x 128, a thread has 8 x 8 of it in registers, twice: the sum, and the chain at hand. A chain is
/// loaded at a time, into one of 3 buffers. In shared memory lie the buffers and, behind them, offsets of the rows of
/// B. (Measured on an H100: 16 terms at a time cost 6 %; 8 cost 27 %.)
struct large_tile final {
  static constexpr unsigned extent = 128, per_thread = 8, threads = 256, depth = 32, stages = 3;
  static constexpr unsigned stride = extent + 4;  // 16 bytes more: fewer bank conflicts
  static constexpr unsigned stage_floats = 2 * depth * stride;
  static constexpr unsigned loads = extent * depth / threads;  // of each operand, for each thread
  static_assert(chain_terms % depth == 0);

  static constexpr std::size_t most_bytes = 163 << 10;  // of a block, compute capability 8.0

  [[nodiscard]] static constexpr std::size_t bytes(std::size_t terms) {
    return (std::size_t{stages} * stage_floats + (terms + depth - 1) / depth * depth) * sizeof(float);
  }
};

/// Copies one float to shared memory while other work goes on, or a zero; __pipeline_memcpy_async has no way to choose
/// without a branch.
__device__ inline void copy_one_or_zero(float* shared, float const* from, bool copies) {
  unsigned const to = static_cast<unsigned>(__cvta_generic_to_shared(shared)), bytes = copies ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

template <bool Transposed>
__global__ void __launch_bounds__(large_tile::threads, 1)
    large_product_kernel(plain_rows a, unsigned rows, unsigned terms, gathered<Transposed> b, unsigned columns,
                         float* c, std::size_t c_stride, bool overwrite) {
  using T = large_tile;
  extern __shared__ float shared[];
  unsigned* const offsets = reinterpret_cast<unsigned*>(shared + T::stages * T::stage_floats);
  unsigned const first_row = blockIdx.y * T::extent, first_column = blockIdx.x * T::extent, thread = threadIdx.x;
  unsigned const lane = thread % warp, number = thread / warp;
  // a warp reads 4 groups of rows and 8 of columns: fewer words than 2 and 16
  unsigned const tx = number % 2 * 8 + lane % 8, ty = number / 2 * 4 + lane / 8;
  // 8 rows and columns of a thread are two groups of 4, half a tile apart: 16-byte reads without conflicts
  auto const spread = [](unsigned group, unsigned i) { return (i / 4) * (T::extent / 2) + group * 4 + i % 4; };

  unsigned const steps = (terms + T::depth - 1) / T::depth;
  for (unsigned k = thread; k < steps * T::depth; k += T::threads) offsets[k] = b.term_offset(min(k, terms - 1));
  __syncthreads();

  // What this thread loads. Rows and columns beyond the end repeat the last one: they are never stored. Terms beyond
  // the end are zero in A, and anything finite in B.
  unsigned const a_term = thread % T::depth, a_row = thread / T::depth;
  unsigned const b_term = Transposed ? thread % T::depth : thread / T::extent;
  unsigned const b_column = Transposed ? thread / T::depth : thread % T::extent;
  constexpr unsigned row_step = T::threads / T::depth;  // between the loads of a thread
  float const* a_from[T::loads];
  float const* b_from[Transposed ? T::loads : 1];
#pragma unroll
  for (unsigned m = 0; m < T::loads; ++m) {
    a_from[m] = a.a + std::size_t{min(first_row + a_row + m * row_step, rows - 1)} * a.stride + a_term;
    if constexpr (Transposed) b_from[m] = b.column(min(first_column + b_column + m * row_step, columns - 1));
  }
  if constexpr (!Transposed) b_from[0] = b.column(min(first_column + b_column, columns - 1));

  auto const fetch = [&](unsigned step) {
    float* const tile_a = shared + (step % T::stages) * T::stage_floats;
    float* const tile_b = tile_a + T::depth * T::stride;
    unsigned const k = step * T::depth;
    bool const inside = k + a_term < terms;
#pragma unroll
    for (unsigned m = 0; m < T::loads; ++m) {
      copy_one_or_zero(tile_a + a_term * T::stride + a_row + m * row_step, a_from[m] + (inside ? k : 0), inside);
    }
#pragma unroll
    for (unsigned m = 0; m < T::loads; ++m) {
      if constexpr (Transposed) {
        __pipeline_memcpy_async(tile_b + b_term * T::stride + b_column + m * row_step, b_from[m] + offsets[k + b_term],
                                4);
      } else {
        unsigned const t = b_term + m * (T::threads / T::extent);
        __pipeline_memcpy_async(tile_b + t * T::stride + b_column, b_from[0] + offsets[k + t], 4);
      }
    }
  };

  float sum[8][8], part[8][8];
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) {
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) {
      unsigned const r = first_row + spread(ty, i), column = first_column + spread(tx, j);
      bool const old = !overwrite && r < rows && column < columns;
      sum[i][j] = old ? c[r * c_stride + column] : 0.0f;
      part[i][j] = 0;
    }
  }

#pragma unroll
  for (unsigned s = 0; s + 1 < T::stages; ++s) {
    if (s < steps) fetch(s);
    __pipeline_commit();
  }
  for (unsigned step = 0; step < steps; ++step) {
    __pipeline_wait_prior(T::stages - 2);
    __syncthreads();
    if (step + T::stages - 1 < steps) fetch(step + T::stages - 1);
    __pipeline_commit();
    float const* const tile_a = shared + (step % T::stages) * T::stage_floats;
    float const* const tile_b = tile_a + T::depth * T::stride;
#pragma unroll
    for (unsigned k = 0; k < T::depth; ++k) {
      float x[8], y[8];
#pragma unroll
      for (unsigned i = 0; i < 8; i += 4) {
        *reinterpret_cast<float4*>(x + i) = *reinterpret_cast<float4 const*>(tile_a + k * T::stride + spread(ty, i));
        *reinterpret_cast<float4*>(y + i) = *reinterpret_cast<float4 const*>(tile_b + k * T::stride + spread(tx, i));
      }
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) {
#pragma unroll
        for (unsigned j = 0; j < 8; ++j) part[i][j] = __fmaf_rn(x[i], y[j], part[i][j]);
      }
    }
    if ((step + 1) % (chain_terms / T::depth) == 0 || step + 1 == steps) {  // a chain ends
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) {
#pragma unroll
        for (unsigned j = 0; j < 8; ++j) {
          sum[i][j] = __fadd_rn(sum[i][j], part[i][j]);
          part[i][j] = 0;
        }
      }
    }
  }
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) {
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) {
      unsigned const r = first_row + spread(ty, i), column = first_column + spread(tx, j);
      if (r < rows && column < columns) c[r * c_stride + column] = sum[i][j];
    }
  }
}

/// Whether the tiles of the large kernel would keep the device busy.
[[nodiscard]] constexpr bool is_large(std::size_t rows, std::size_t columns, std::size_t processors) {
  auto const tiles = [](std::size_t n) { return (n + large_tile::extent - 1) / large_tile::extent; };
  return tiles(rows) * tiles(columns) * 4 >= processors * 3;
}

template <bool Transposed>
void large_product(cudaStream_t stream, plain_rows const& a, std::size_t rows, std::size_t terms,
                   gathered<Transposed> const& b, std::size_t columns, float* c, std::size_t c_stride, bool overwrite) {
  using T = large_tile;
  allow_shared(large_product_kernel<Transposed>, T::most_bytes);
  dim3 const grid(blocks_for(columns, T::extent), blocks_for(rows, T::extent));
  large_product_kernel<Transposed>
      <<<grid, T::threads, T::bytes(terms), stream>>>(a, static_cast<unsigned>(rows), static_cast<unsigned>(terms), b,
                                                      static_cast<unsigned>(columns), c, c_stride, overwrite);
  check_launch("large_product");
}

/// `a` has `terms` columns, `c` is [rows, c_stride]. Cost: 2 rows terms columns FLOP. `processors`: of the device.
template <bool Transposed>
void product(cudaStream_t stream, std::size_t processors, plain_rows const& a, std::size_t rows, std::size_t terms,
             gathered<Transposed> const& b, std::size_t columns, float* c, std::size_t c_stride, bool overwrite) {
  if (rows == 0 || columns == 0) return;
  bool const fits = large_tile::bytes(terms) <= large_tile::most_bytes;
  if (terms > 0 && fits && is_large(rows, columns, processors)) {
    large_product(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  } else {
    chain_product(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  }
}

}  // namespace hull::cuda
