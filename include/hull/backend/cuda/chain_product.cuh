// SPDX-License-Identifier: Apache-2.0
// The product of product.cuh for few rows or columns, where time is latency: the chains of a tile run side by side, one
// in each warp, and are added in order. With rows that come straight from the output of a stage it relaxes them while
// it loads them: one kernel for a whole backward step.
#pragma once

#include <cmath>
#include <cstddef>
#include <cuda_pipeline.h>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/summation.hpp>

namespace hull::cuda {

/// A [rows, terms] as it is: element (r, k) is a[r * stride + k].
struct plain_rows final {
  static constexpr bool relaxes = false, outward = false;
  float const* a;
  std::size_t stride;
};

/// A [rows, terms] = rows at the output of stage s, whose live columns are the terms. Their constants are added, too.
template <bool Outward>
struct relaxed_rows final {
  static constexpr bool relaxes = true, outward = Outward;
  float const* a;
  row_block rows;
  stage_state s;
  double share;        // 1 + the relative error of a sum over the live columns
  bool several;        // boxes; else all rows are of the first
  bool counts = true;  // adds the constants: once, where a matrix comes in blocks
};

/// A block has 8 warps; a tile of C is 16 x 32, of which a lane has 4 x 4.
struct chain_tile final {
  static constexpr unsigned rows = 16, columns = 32, warps = 8, threads = warps * warp;
  static constexpr unsigned a_stride = rows + 4, b_stride = columns + 4;
  static constexpr unsigned chain_floats = chain_terms * (a_stride + b_stride);  // of one warp
  static constexpr std::size_t bytes = std::size_t{warps} * chain_floats * sizeof(float);
  static_assert(chain_terms == warp && rows * columns <= chain_terms * b_stride);
};

/// Sums each of 2 Half numbers over groups of lanes; lanes keep half of the numbers each time.
template <unsigned Half>
__device__ void fold(double (&x)[16]) {
  bool const upper = (threadIdx.x & (2 * Half)) != 0;
#pragma unroll
  for (unsigned i = 0; i < Half; ++i) {
    double const give = upper ? x[i] : x[i + Half];
    double const keep = upper ? x[i + Half] : x[i];
    x[i] = keep + __shfl_xor_sync(0xffffffffU, give, 2 * Half);
  }
  if constexpr (Half > 1) fold<Half / 2>(x);
}
/// Sums each of 16 numbers over the warp: sum i comes to lanes 2 i and 2 i + 1. The tree is the same for all of them.
__device__ inline double sum_sixteen(double (&x)[16]) {
  fold<8>(x);
  return x[0] + __shfl_xor_sync(0xffffffffU, x[0], 1);
}

template <bool Transposed, class A>
__global__ void __launch_bounds__(chain_tile::threads)
    chain_product_kernel(A from, unsigned rows, unsigned terms, gathered<Transposed> b, unsigned columns, float* c,
                         std::size_t c_stride, bool overwrite) {
  using T = chain_tile;
  extern __shared__ float shared[];
  __shared__ double constants[3][T::rows][T::warps];
  unsigned const lane = threadIdx.x % warp, number = threadIdx.x / warp;
  float* const tile_a = shared + number * T::chain_floats;   // [terms, rows]
  float* const tile_b = tile_a + chain_terms * T::a_stride;  // [terms, columns]
  unsigned const first_row = blockIdx.y * T::rows, first_column = blockIdx.x * T::columns;
  bool counts = false;  // one block of a row adds its constants
  if constexpr (A::relaxes) counts = from.counts && blockIdx.x == 0;
  unsigned const row_group = lane / 8 * 4, column_group = lane % 8 * 4;

  // two elements of C for each thread
  constexpr unsigned own = T::rows * T::columns / T::threads;
  float sum[own];
  unsigned own_row[own], own_column = threadIdx.x % T::columns;
#pragma unroll
  for (unsigned e = 0; e < own; ++e) {
    own_row[e] = threadIdx.x / T::columns + e * (T::threads / T::columns);
    unsigned const r = first_row + own_row[e], column = first_column + own_column;
    sum[e] = !overwrite && r < rows && column < columns ? c[r * c_stride + column] : 0.0f;
  }
  double added[3] = {};  // of row threadIdx.x, in the first 16 threads: value, slack, far value

  unsigned const chains = (terms + chain_terms - 1) / chain_terms;
  for (unsigned first = 0; first < chains; first += T::warps) {
    bool const busy = first + number < chains;
    if (busy) {
      unsigned const begin = (first + number) * chain_terms, term = begin + lane;
      bool const inside = term < terms;
      // rows and columns beyond the end repeat the last one; terms beyond the end are zero in A
      if (columns == 0) {
        // no element of C, but constants
      } else if constexpr (Transposed) {
        unsigned const offset = b.term_offset(min(term, terms - 1));
#pragma unroll 8
        for (unsigned j = 0; j < T::columns; ++j) {
          __pipeline_memcpy_async(tile_b + lane * T::b_stride + j,
                                  b.column(min(first_column + j, columns - 1)) + offset, 4);
        }
      } else {
        unsigned const offset = b.term_offset(min(term, terms - 1));
        float const* const column = b.column(min(first_column + lane, columns - 1));
#pragma unroll 8
        for (unsigned k = 0; k < chain_terms; ++k) {
          __pipeline_memcpy_async(tile_b + k * T::b_stride + lane, column + __shfl_sync(0xffffffffU, offset, k), 4);
        }
      }
      __pipeline_commit();
      if constexpr (!A::relaxes) {
        float x[T::rows];
#pragma unroll
        for (unsigned i = 0; i < T::rows; ++i) {
          unsigned const r = min(first_row + i, rows - 1);
          x[i] = inside ? from.a[std::size_t{r} * from.stride + term] : 0.0f;
        }
#pragma unroll
        for (unsigned i = 0; i < T::rows; ++i) tile_a[lane * T::a_stride + i] = x[i];
      } else {
        double value[T::rows], slack[T::rows], far[T::rows];
        bool const two_sided = from.rows.far_value != nullptr;
#pragma unroll
        for (unsigned i = 0; i < T::rows; ++i) {
          unsigned const r = min(first_row + i, rows - 1);
          std::size_t const at = std::size_t{from.several ? from.rows.box[r] : 0} * terms + min(term, terms - 1);
          // both sides are loaded before the sign is known: time is latency
          float const low = from.s.lower_slope[at], high = from.s.upper_slope[at];
          float const x = inside ? from.a[std::size_t{r} * terms + term] : 0.0f;
          bool const positive = x >= 0;
          tile_a[lane * T::a_stride + i] = x * (positive ? low : high);
          value[i] = slack[i] = far[i] = 0;
          if (!counts) continue;
          double const exact = x;
          float const low_shift = from.s.lower_shift[at], high_shift = from.s.upper_shift[at];
          value[i] = exact * static_cast<double>(positive ? low_shift : high_shift);
          if constexpr (A::outward) slack[i] = std::fabs(exact) * static_cast<double>(from.s.error[at]);
          if (!two_sided) continue;
          float const low_far = from.s.lower_far[at], high_far = from.s.upper_far[at];
          far[i] = exact * static_cast<double>(positive ? low_far : high_far);
        }
        if (counts) {
          double const sums[3] = {sum_sixteen(value), A::outward ? sum_sixteen(slack) : 0,
                                  two_sided ? sum_sixteen(far) : 0};
          if (lane % 2 == 0) {
#pragma unroll
            for (unsigned v = 0; v < 3; ++v) constants[v][lane / 2][number] = sums[v];
          }
        }
      }
      __pipeline_wait_prior(0);
      __syncwarp();
      float part[4][4] = {};
#pragma unroll
      for (unsigned k = 0; k < chain_terms; ++k) {
        float4 const x = *reinterpret_cast<float4 const*>(tile_a + k * T::a_stride + row_group);
        float4 const y = *reinterpret_cast<float4 const*>(tile_b + k * T::b_stride + column_group);
        float const xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
#pragma unroll
          for (unsigned j = 0; j < 4; ++j) part[i][j] = __fmaf_rn(xs[i], ys[j], part[i][j]);
        }
      }
      __syncwarp();  // the tile has been read; the result takes its place
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        *reinterpret_cast<float4*>(tile_b + (row_group + i) * T::columns + column_group) =
            make_float4(part[i][0], part[i][1], part[i][2], part[i][3]);
      }
    }
    __syncthreads();
    unsigned const ready = min(chains - first, T::warps);
    for (unsigned w = 0; w < ready; ++w) {
      float const* const result = shared + w * T::chain_floats + chain_terms * T::a_stride;
#pragma unroll
      for (unsigned e = 0; e < own; ++e) sum[e] = __fadd_rn(sum[e], result[own_row[e] * T::columns + own_column]);
      if (counts && threadIdx.x < T::rows) {
#pragma unroll
        for (unsigned v = 0; v < 3; ++v) added[v] += constants[v][threadIdx.x][w];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (unsigned e = 0; e < own; ++e) {
    unsigned const r = first_row + own_row[e], column = first_column + own_column;
    if (r < rows && column < columns) c[r * c_stride + column] = sum[e];
  }
  if constexpr (A::relaxes) {
    if (counts && threadIdx.x < T::rows && first_row + threadIdx.x < rows) {
      add_constants<A::outward>(from.rows, first_row + threadIdx.x, from.s, from.share, added[0], added[1], added[2]);
    }
  }
}

/// C (+)= A B for A = plain_rows or relaxed_rows. Cost: 2 rows terms columns FLOP.
template <bool Transposed, class A>
void chain_product(cudaStream_t stream, A const& a, std::size_t rows, std::size_t terms, gathered<Transposed> const& b,
                   std::size_t columns, float* c, std::size_t c_stride, bool overwrite) {
  using T = chain_tile;
  auto* const kernel = chain_product_kernel<Transposed, A>;
  allow_shared(kernel, T::bytes);
  // with no column left the constants of the rows are still due
  dim3 const grid(blocks_for(columns, T::columns), blocks_for(rows, T::rows));
  kernel<<<grid, T::threads, T::bytes, stream>>>(a, static_cast<unsigned>(rows), static_cast<unsigned>(terms), b,
                                                 static_cast<unsigned>(columns), c, c_stride, overwrite);
  check_launch("chain_product");
}

}  // namespace hull::cuda
