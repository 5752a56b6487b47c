// SPDX-License-Identifier: Apache-2.0
// Products of a tile of floats with packed weights, both as pairs of halfs, by mma.sync: the arithmetic of
// half_product.cuh for convolutions, whose operand is made while it is loaded. Rows are split in registers, weights
// when they are packed. docs/soundness_tensor.md, section 10, says what these products cost.
#pragma once

#include <cstddef>
#include <cuda_fp16.h>
#include <limits>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_pairs.cuh>
#include <hull/backend/summation.hpp>

namespace hull::cuda {

/// Numbers in which the products of a convolution are computed.
enum class conv_numbers { floats, halfs };

/// c += A B for 16 x 16 halfs times 16 x 8. Lane 4 g + t has A's rows g and g + 8, B's column g, C's columns 2 t and
/// 2 t + 1; a[0] and b[0] are terms 2 t and 2 t + 1, a[2] and b[1] the ones 8 later, odd elements of `a` those of row
/// g + 8.
__device__ inline void multiply_fragment(float (&c)[4], unsigned const (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Two scaled numbers as pairs of halfs.
__device__ inline void split_halfs(float x, float y, unsigned& large, unsigned& small) {
  __half2 const rounded = __floats2half2_rn(x, y);
  float2 const back = __half22float2(rounded);
  __half2 const rest = __floats2half2_rn(__fsub_rn(x, back.x), __fsub_rn(y, back.y));
  large = *reinterpret_cast<unsigned const*>(&rounded), small = *reinterpret_cast<unsigned const*>(&rest);
}

/// Four terms of one column of packed weights, the numbers that a lane needs for a fragment: large parts of terms 0 and
/// 1, of 2 and 3, then the small parts.
__device__ inline uint4 split_weights(float const (&x)[4], float scale) {
  uint4 item;
  split_halfs(x[0] * scale, x[1] * scale, item.x, item.z);
  split_halfs(x[2] * scale, x[3] * scale, item.y, item.w);
  return item;
}

/// What takes a sum of products back: 1 / (scale_a * scale_b) for powers of two of scale_of, as two factors that are
/// both floats. One after the other they give the float next to the exact number, unless it is subnormal or infinite.
/// NaN if one of the scales is.
struct half_unscale final {
  float first = 0, second = 0;

  half_unscale() = default;
  __device__ half_unscale(float scale_a, float scale_b) {
    // exponents are within -113, ..., 126, so half of their sum is one of a normal float
    int const exponent = 254 - (__float_as_int(scale_a) >> 23) - (__float_as_int(scale_b) >> 23), half = exponent / 2;
    bool const nan = scale_a != scale_a || scale_b != scale_b;
    first = nan ? std::numeric_limits<float>::quiet_NaN() : __int_as_float((half + 127) << 23);
    second = nan ? first : __int_as_float((exponent - half + 127) << 23);
  }
  [[nodiscard]] __device__ float operator()(float x) const { return x * first * second; }
};

/// One chain of 32 terms of a tile: positions with 32 floats, T::pitch apart, times 4 * T::per_channel columns of
/// weights, [8][T::weight_pitch / 4] items of split_weights. A warp takes 32 positions and all columns, so that it
/// splits every number of A once, `Together` positions of each lane at a time.
template <class T>
struct half_chain final {
  static constexpr int per_position = 4;  // positions of a lane
  static_assert(T::per_channel % 4 == 0 && T::depth == static_cast<int>(chain_terms));
  // reads of 16 bytes: lines 4 apart, and four terms apart, are on different banks
  static_assert(T::pitch % 32 == 4 && T::weight_pitch / 4 % 8 == 2);

  /// Number i of the positions of a thread. Rows of a fragment are dealt to positions for the sake of banks.
  [[nodiscard]] HULL_FN static constexpr int position(int thread, int i) {
    int const row = thread % 32 / 4;
    return thread / 32 * 32 + i * 8 + row / 2 + row % 2 * 4;
  }
  /// Number j of its columns, in groups of four neighbours.
  [[nodiscard]] HULL_FN static constexpr int column(int thread, int j) { return j / 4 * 16 + thread % 4 * 4 + j % 4; }
  /// Floats before the four terms of the tile that a lane reads for its position number i and step k of 16 terms,
  [[nodiscard]] HULL_FN static constexpr int source(int thread, int i, int k) {
    return position(thread, i) * T::pitch + k * 16 + thread % 4 * 4;
  }
  /// and before the item of the weights that it reads for the columns from number j on, fragment n of two.
  [[nodiscard]] HULL_FN static constexpr int weight(int thread, int j, int k, int n) {
    int const column = thread % 32 / 4;
    return (k * 4 + thread % 4) * T::weight_pitch + (j * 4 + column / 2 * 4 + n * 2 + column % 2) * 4;
  }

  /// Calls add(i, j, sum) for the chains of all positions i and columns j of the thread: small products come first, the
  /// large ones on top. scale [per_position].
  template <int Together, class Add>
  __device__ static void multiply(int thread, float const* sources, float const* weights, float const* scale,
                                  Add&& add) {
    static_assert(Together == 2 || Together == per_position);
    constexpr int down = Together / 2;  // fragments
#pragma unroll
    for (int first = 0; first < per_position; first += Together) {
      unsigned large[down][2][4], small[down][2][4];  // [16 positions][16 terms][register]
#pragma unroll
      for (int i = 0; i < Together; ++i) {
        float const s = scale[first + i];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float4 const four = *reinterpret_cast<float4 const*>(sources + source(thread, first + i, k));
          // terms 4 t, ..., 4 t + 3 are the ones that the fragment calls 2 t, 2 t + 1, 2 t + 8, 2 t + 9; so for B
          split_halfs(four.x * s, four.y * s, large[i / 2][k][i % 2], small[i / 2][k][i % 2]);
          split_halfs(four.z * s, four.w * s, large[i / 2][k][2 + i % 2], small[i / 2][k][2 + i % 2]);
        }
      }
#pragma unroll
      for (int j = 0; j < T::per_channel; j += 4) {
        // two fragments, whose columns are dealt so that a thread has four neighbours
        uint4 b[2][2];  // [16 terms][fragment]
        float chain[2][down][4] = {};
#pragma unroll
        for (int k = 0; k < 2; ++k) {
#pragma unroll
          for (int n = 0; n < 2; ++n) b[k][n] = *reinterpret_cast<uint4 const*>(weights + weight(thread, j, k, n));
        }
        auto const for_fragments = [&](auto&& multiply_one) {
#pragma unroll
          for (int k = 0; k < 2; ++k) {
#pragma unroll
            for (int n = 0; n < 2; ++n) {
#pragma unroll
              for (int m = 0; m < down; ++m) multiply_one(k, n, m);
            }
          }
        };
        for_fragments([&](int k, int n, int m) { multiply_fragment(chain[n][m], small[m][k], b[k][n].x, b[k][n].y); });
        for_fragments([&](int k, int n, int m) { multiply_fragment(chain[n][m], large[m][k], b[k][n].z, b[k][n].w); });
        for_fragments([&](int k, int n, int m) { multiply_fragment(chain[n][m], large[m][k], b[k][n].x, b[k][n].y); });
#pragma unroll
        for (int i = 0; i < Together; ++i) {
#pragma unroll
          for (int c = 0; c < 4; ++c) add(first + i, j + c, chain[c / 2][i / 2][i % 2 * 2 + c % 2]);
        }
      }
    }
  }
};

/// Sums of one thread of a tile over many chains.
template <class T>
struct half_sums final {
  using chain = half_chain<T>;
  static constexpr int per_position = chain::per_position;

  float sum[per_position][T::per_channel];
  float scale[per_position];

  [[nodiscard]] static __device__ int position(int thread, int i) { return chain::position(thread, i); }
  [[nodiscard]] static __device__ int column(int thread, int j) { return chain::column(thread, j); }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < per_position; ++i) {
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) sum[i][j] = 0;
    }
  }
  __device__ void add_chain(int thread, float const* sources, float const* weights) {
    chain::template multiply<per_position>(thread, sources, weights, scale,
                                           [&](int i, int j, float x) { sum[i][j] = __fadd_rn(sum[i][j], x); });
  }
  /// Ends the sums.
  __device__ void unscale(float scale_b) {
#pragma unroll
    for (int i = 0; i < per_position; ++i) {
      half_unscale const back(scale[i], scale_b);
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) sum[i][j] = back(sum[i][j]);
    }
  }
};

/// As conv_tile (conv_product.cuh) for pairs of halfs; a step of the pipeline is a chain.
template <int PerChannel, int Stages, int Blocks>
struct half_conv_tile final {
  static constexpr bool halfs = true;
  static constexpr int per_channel = PerChannel, stages = Stages, blocks = Blocks;
  static constexpr int threads = 128, depth = static_cast<int>(chain_terms);
  static constexpr int positions = threads, channels = 4 * PerChannel;
  static constexpr int pitch = depth + 4;
  static constexpr int together = 4;  // terms that lie together in packed weights
  static constexpr int weight_lines = depth / together, weight_floats = channels * together,
                       weight_pitch = weight_floats + 8;
  static constexpr int stage_floats = positions * pitch + weight_lines * weight_pitch;
  static constexpr int source_loads = positions * (depth / 4) / threads;
  static constexpr std::size_t dynamic_bytes = sizeof(float) * Stages * stage_floats;
};

}  // namespace hull::cuda
