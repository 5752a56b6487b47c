// SPDX-License-Identifier: Apache-2.0
// C [rows, columns] (+)= A [rows, terms] B in single precision, B gathered from live rows and columns of a matrix while
// it is loaded. Every element is summed in the order of backend/summation.hpp, whatever the tile: it depends neither on
// the number of rows nor on the tile's shape.
#pragma once

#include <cstddef>
#include <cuda_pipeline.h>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/summation.hpp>

namespace hull::cuda {

/// B(k, j) = weight[rows[k] * stride + columns[j]]; `Transposed`: weight[rows[j] * stride + columns[k]].
template <bool Transposed>
struct gathered final {
  float const* weight = nullptr;
  std::size_t stride = 0;
  index_t const* rows = nullptr;
  index_t const* columns = nullptr;

  [[nodiscard]] __device__ float const* at(unsigned k, unsigned j) const {
    if constexpr (Transposed) return weight + rows[j] * stride + columns[k];
    return weight + rows[k] * stride + columns[j];
  }
};

/// A tile of C is Rows x Columns, each thread has PerRow x PerColumn of it in registers; Depth terms are loaded at a
/// time, into one of Stages buffers.
template <unsigned Rows, unsigned Columns, unsigned PerRow, unsigned PerColumn, unsigned Depth, unsigned Stages>
struct tile final {
  static constexpr unsigned rows = Rows, columns = Columns, per_row = PerRow, per_column = PerColumn, depth = Depth,
                            stages = Stages;
  static constexpr unsigned threads = (Rows / PerRow) * (Columns / PerColumn);
  static constexpr unsigned a_stride = Rows + 4, b_stride = Columns + 4;  // 16 bytes more: fewer bank conflicts
  static constexpr unsigned stage_floats = Depth * (a_stride + b_stride);
  static constexpr std::size_t bytes = std::size_t{Stages} * stage_floats * sizeof(float);
  static_assert(chain_terms % Depth == 0 && PerRow % 4 == 0 && PerColumn % 4 == 0);
};
using large_tile = tile<128, 128, 8, 8, 16, 3>;
using middle_tile = tile<64, 64, 4, 4, 16, 4>;
using small_tile = tile<32, 32, 4, 4, 32, 4>;

/// Loads column-major into shared memory: to[k * stride + i] = from(i, k), zero outside.
template <unsigned Extent, unsigned Stride, unsigned Depth, unsigned Threads, bool AlongTerms, class From>
__device__ void load_tile(float* to, unsigned first, unsigned count, unsigned first_term, unsigned terms, From&& from) {
#pragma unroll
  for (unsigned number = threadIdx.x; number < Extent * Depth; number += Threads) {
    unsigned const i = AlongTerms ? number / Depth : number % Extent;
    unsigned const k = AlongTerms ? number % Depth : number / Extent;
    float* const place = to + k * Stride + i;
    if (first + i < count && first_term + k < terms) {
      __pipeline_memcpy_async(place, from(first + i, first_term + k), sizeof(float));
    } else {
      *place = 0;
    }
  }
}

template <class T, bool Transposed>
__global__ void __launch_bounds__(T::threads)
    product_kernel(float const* a, unsigned rows, unsigned terms, gathered<Transposed> b, unsigned columns, float* c,
                   std::size_t c_stride, bool overwrite) {
  extern __shared__ float shared[];
  unsigned const first_row = blockIdx.y * T::rows, first_column = blockIdx.x * T::columns;
  unsigned const tx = threadIdx.x % (T::columns / T::per_column), ty = threadIdx.x / (T::columns / T::per_column);
  // rows and columns of a thread come in groups of 4, spread over the tile: 16-byte reads without conflicts
  constexpr unsigned row_groups = T::per_row / 4, column_groups = T::per_column / 4;
  auto const row_of = [&](unsigned i) { return (i / 4) * (T::rows / row_groups) + ty * 4 + i % 4; };
  auto const column_of = [&](unsigned j) { return (j / 4) * (T::columns / column_groups) + tx * 4 + j % 4; };

  unsigned const steps = (terms + T::depth - 1) / T::depth;
  auto const fetch = [&](unsigned step) {
    float* const tile_a = shared + (step % T::stages) * T::stage_floats;
    float* const tile_b = tile_a + T::depth * T::a_stride;
    unsigned const k = step * T::depth;
    load_tile<T::rows, T::a_stride, T::depth, T::threads, true>(
        tile_a, first_row, rows, k, terms, [&](unsigned i, unsigned t) { return a + std::size_t{i} * terms + t; });
    load_tile<T::columns, T::b_stride, T::depth, T::threads, Transposed>(
        tile_b, first_column, columns, k, terms, [&](unsigned j, unsigned t) { return b.at(t, j); });
  };

  float sum[T::per_row][T::per_column], part[T::per_row][T::per_column];
#pragma unroll
  for (unsigned i = 0; i < T::per_row; ++i) {
#pragma unroll
    for (unsigned j = 0; j < T::per_column; ++j) {
      unsigned const r = first_row + row_of(i), column = first_column + column_of(j);
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
    float const* const tile_b = tile_a + T::depth * T::a_stride;
#pragma unroll
    for (unsigned k = 0; k < T::depth; ++k) {
      float x[T::per_row], y[T::per_column];
#pragma unroll
      for (unsigned i = 0; i < T::per_row; i += 4) {
        *reinterpret_cast<float4*>(x + i) = *reinterpret_cast<float4 const*>(tile_a + k * T::a_stride + row_of(i));
      }
#pragma unroll
      for (unsigned j = 0; j < T::per_column; j += 4) {
        *reinterpret_cast<float4*>(y + j) = *reinterpret_cast<float4 const*>(tile_b + k * T::b_stride + column_of(j));
      }
#pragma unroll
      for (unsigned i = 0; i < T::per_row; ++i) {
#pragma unroll
        for (unsigned j = 0; j < T::per_column; ++j) part[i][j] = __fmaf_rn(x[i], y[j], part[i][j]);
      }
    }
    if ((step + 1) % (chain_terms / T::depth) == 0 || step + 1 == steps) {  // a chain ends
#pragma unroll
      for (unsigned i = 0; i < T::per_row; ++i) {
#pragma unroll
        for (unsigned j = 0; j < T::per_column; ++j) {
          sum[i][j] = __fadd_rn(sum[i][j], part[i][j]);
          part[i][j] = 0;
        }
      }
    }
  }
#pragma unroll
  for (unsigned i = 0; i < T::per_row; ++i) {
#pragma unroll
    for (unsigned j = 0; j < T::per_column; ++j) {
      unsigned const r = first_row + row_of(i), column = first_column + column_of(j);
      if (r < rows && column < columns) c[r * c_stride + column] = sum[i][j];
    }
  }
}

template <class T, bool Transposed>
void launch_product(cudaStream_t stream, float const* a, std::size_t rows, std::size_t terms,
                    gathered<Transposed> const& b, std::size_t columns, float* c, std::size_t c_stride,
                    bool overwrite) {
  static bool const allowed = [] {
    check(cudaFuncSetAttribute(product_kernel<T, Transposed>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(T::bytes)),
          "shared memory");
    return true;
  }();
  static_cast<void>(allowed);
  dim3 const grid(blocks_for(columns, T::columns), blocks_for(rows, T::rows));
  product_kernel<T, Transposed><<<grid, T::threads, T::bytes, stream>>>(
      a, static_cast<unsigned>(rows), static_cast<unsigned>(terms), b, static_cast<unsigned>(columns), c, c_stride,
      overwrite);
  check_launch("product");
}

/// `a` is [rows, terms], `c` [rows, c_stride]. Cost: 2 rows terms columns FLOP. `processors`: of the device.
template <bool Transposed>
void product(cudaStream_t stream, std::size_t processors, float const* a, std::size_t rows, std::size_t terms,
             gathered<Transposed> const& b, std::size_t columns, float* c, std::size_t c_stride, bool overwrite) {
  if (rows == 0 || columns == 0) return;
  auto const tiles = [&](std::size_t extent) {
    return ((rows + extent - 1) / extent) * ((columns + extent - 1) / extent);
  };
  if (tiles(128) * 4 >= processors * 3) {
    launch_product<large_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  } else if (tiles(64) >= processors) {
    launch_product<middle_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  } else {
    launch_product<small_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  }
}

}  // namespace hull::cuda
