// SPDX-License-Identifier: Apache-2.0
// Rows and matrices as pairs of halfs, in the order in which the kernel of half_product.cuh reads them. A float x,
// scaled by a power of two, becomes h + l, both halfs rounded to nearest (docs/soundness_tensor.md, section 9).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cuda_fp16.h>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>

namespace hull::cuda {

/// A packed matrix is [chunk][line]: a line (a row of A, a column of B) has 32 terms of a chunk in 128 bytes, eight
/// pieces of 8 halfs: four with the large parts, four with the small ones. Piece p of line r lies at p ^ (r % 8).
struct packed_lines final {
  static constexpr std::size_t terms = chain_terms, piece_terms = 8, pieces = terms / piece_terms;
  static constexpr std::size_t group = 256;  // the number of lines is a multiple of this

  uint4* base = nullptr;
  unsigned lines = 0;  // with padding, whose numbers nobody uses

  [[nodiscard]] static constexpr std::size_t chunks(std::size_t terms_) { return (terms_ + terms - 1) / terms; }
  [[nodiscard]] static constexpr std::size_t padded(std::size_t lines_) { return (lines_ + group - 1) / group * group; }
  /// Floats of memory; half a float for a half.
  [[nodiscard]] static constexpr std::size_t floats(std::size_t lines_, std::size_t terms_) {
    return padded(lines_) * chunks(terms_) * terms;
  }
  /// The eight pieces of a line in a chunk.
  [[nodiscard]] HULL_FN uint4* line(std::size_t chunk, std::size_t number) const {
    return base + (chunk * lines + number) * (2 * pieces);
  }
};

/// Numbers of magnitude up to `largest` times scale_of(largest) are below 2^15; the largest is at least 2^14, unless it
/// is below 2^-112. NaN for infinity and NaN.
[[nodiscard]] HULL_FN inline float scale_of(float largest) {
  if (!(largest < std::numeric_limits<float>::infinity())) return std::numeric_limits<float>::quiet_NaN();
  if (largest < 0x1p-112f) return 0x1p126f;
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest < 2^exponent
  return std::ldexp(1.0f, 15 - exponent);
}

/// Splits 8 scaled numbers and stores their parts as piece `piece` of a line.
__device__ inline void store_pieces(uint4* line, unsigned number, unsigned piece, float const (&x)[8], float scale) {
  __half2 large[4], small[4];
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    float const a = x[2 * i] * scale, b = x[2 * i + 1] * scale;
    large[i] = __floats2half2_rn(a, b);
    float2 const back = __half22float2(large[i]);
    small[i] = __floats2half2_rn(__fsub_rn(a, back.x), __fsub_rn(b, back.y));
  }
  line[piece ^ number % 8] = *reinterpret_cast<uint4 const*>(large);
  line[(piece + packed_lines::pieces) ^ number % 8] = *reinterpret_cast<uint4 const*>(small);
}

/// Packs `terms` numbers of each row of A, `stride` apart, scaled by a power of two of the row's own, whose inverse
/// becomes unscale[r]. NaN or infinity in a row makes its `unscale` NaN. A block for each row.
template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    pack_rows_kernel(float const* a, std::size_t stride, unsigned terms, packed_lines to, float* unscale) {
  unsigned const row = blockIdx.x;
  float const* const from = a + row * stride;
  unsigned largest = 0;  // bits of magnitudes are ordered as they are; NaN comes last
  for (unsigned k = threadIdx.x; k < terms; k += Threads) {
    largest = max(largest, __float_as_uint(from[k]) & 0x7fffffffu);
  }
  __shared__ unsigned of_warp[Threads / warp];
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (threadIdx.x % warp == 0) of_warp[threadIdx.x / warp] = largest;
  __syncthreads();
  for (unsigned w = 0; w < Threads / warp; ++w) largest = max(largest, of_warp[w]);
  float const scale = scale_of(__uint_as_float(largest));
  if (threadIdx.x == 0) unscale[row] = 1 / scale;
  unsigned const pieces = (terms + packed_lines::terms - 1) / packed_lines::terms * packed_lines::pieces;
  for (unsigned p = threadIdx.x; p < pieces; p += Threads) {
    float x[8];
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) x[i] = p * 8 + i < terms ? from[p * 8 + i] : 0.0f;
    store_pieces(to.line(p / packed_lines::pieces, row), row, p % packed_lines::pieces, x, scale);
  }
}

/// Packs `terms` terms of `lines` columns of B, from term `first_term` and column `first` on. Each block packs one
/// chunk of 64 columns.
template <bool Transposed>
__global__ void __launch_bounds__(256)
    pack_columns_kernel(gathered<Transposed> b, unsigned first_term, unsigned terms, unsigned first, unsigned lines,
                        packed_lines to, float scale) {
  constexpr unsigned block_lines = 64, depth = packed_lines::terms;
  __shared__ float tile[depth][block_lines + 1];
  unsigned const chunk = blockIdx.y, start = blockIdx.x * block_lines;
  for (unsigned i = threadIdx.x; i < depth * block_lines; i += 256) {
    // neighbours read along a row of the weights
    unsigned const term = Transposed ? i % depth : i / block_lines, line = Transposed ? i / depth : i % block_lines;
    unsigned const k = chunk * depth + term, j = start + line;
    tile[term][line] = k < terms && j < lines ? b.column(first + j)[b.term_offset(first_term + k)] : 0.0f;
  }
  __syncthreads();
  unsigned const line = threadIdx.x / packed_lines::pieces, piece = threadIdx.x % packed_lines::pieces;
  float x[8];
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) x[i] = tile[piece * 8 + i][line];
  store_pieces(to.line(chunk, start + line), start + line, piece, x, scale);
}

}  // namespace hull::cuda
