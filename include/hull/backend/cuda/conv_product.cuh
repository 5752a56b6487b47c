// SPDX-License-Identifier: Apache-2.0
// The product behind conv_backward and conv_points: an implicit matrix product on tiles of 4 x 4 targets of a row
// (fewer on small planes) times some target channels; a block takes several such tiles, of any rows. Terms are summed
// in the order that conv_plan states, whatever the tile and its neighbours are.
#pragma once

#include <cstddef>
#include <cuda_pipeline.h>
#include <type_traits>

#include <hull/backend/cuda/conv_plan.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_tile_product.cuh>
#include <hull/backend/summation.hpp>

namespace hull::cuda {

/// 16 bytes into shared memory; zeros if not `inside` (`from` is not read then).
__device__ inline void copy_or_zero(float* to, float const* from, bool inside) {
  unsigned const place = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(__cvta_generic_to_global(from)),
               "r"(inside ? 16 : 0)
               : "memory");
}

/// A thread has PerPosition x PerChannel targets in registers, Across threads share a position.
template <int PerPosition, int PerChannel, int Across, int Stages>
struct conv_tile final {
  static constexpr bool halfs = false;
  static constexpr int per_position = PerPosition, per_channel = PerChannel, across = Across, stages = Stages;
  static constexpr int blocks = 1;  // of so many the registers must suffice
  static constexpr int threads = 128, depth = conv_plan::depth;
  static constexpr int down = threads / Across;
  static constexpr int positions = PerPosition * down, channels = PerChannel * Across;
  static constexpr int pitch = depth + 4;  // of a position: 8 positions in a row meet all banks once
  static constexpr int together = 1;       // terms that lie together in packed weights
  static constexpr int weight_lines = depth, weight_floats = channels, weight_pitch = weight_floats;
  static constexpr int stage_floats = positions * pitch + weight_lines * weight_pitch;
  static constexpr int source_loads = positions * (depth / 4) / threads;
  static constexpr std::size_t dynamic_bytes = 0;
  static_assert(PerPosition % 2 == 0 && PerChannel % 4 == 0 && chain_terms == 2 * depth);
};
// The number of channels is conv_plan::tile_channels.
using conv_tile_64 = conv_tile<8, 8, 8, 3>;
using conv_tile_32 = conv_tile<8, 4, 8, 3>;
using conv_tile_16 = conv_tile<4, 4, 4, 3>;
using conv_tile_4 = conv_tile<2, 4, 1, 2>;
using half_conv_tile_64 = half_conv_tile<16, 2, 3>;
using half_conv_tile_32 = half_conv_tile<8, 2, 3>;

/// Sums of one thread of a tile of floats: threads of a position take groups of 4 channels, spread over the tile.
template <class T>
struct float_sums final {
  static constexpr int per_position = T::per_position, channel_groups = T::per_channel / 4;

  float sum[T::per_position][T::per_channel], part[T::per_position][T::per_channel];

  [[nodiscard]] static __device__ int position(int thread, int i) { return thread / T::across + i * T::down; }
  [[nodiscard]] static __device__ int column(int thread, int j) {
    return j / 4 * (T::channels / channel_groups) + thread % T::across * 4 + j % 4;
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) sum[i][j] = part[i][j] = 0;
    }
  }

  /// Adds 16 terms; a chain may end behind them.
  __device__ void add_terms(int thread, float const* sources, float const* weights, bool ends) {
    sources += thread / T::across * T::pitch;
#pragma unroll
    for (int k = 0; k < T::depth; k += 4) {
      float a[T::per_position][4];
#pragma unroll
      for (int i = 0; i < T::per_position; ++i) {
        float4 const four = *reinterpret_cast<float4 const*>(sources + i * T::down * T::pitch + k);
        a[i][0] = four.x, a[i][1] = four.y, a[i][2] = four.z, a[i][3] = four.w;
      }
#pragma unroll
      for (int d = 0; d < 4; ++d) {
        float b[T::per_channel];
#pragma unroll
        for (int j = 0; j < T::per_channel; j += 4) {
          float4 const four = *reinterpret_cast<float4 const*>(weights + (k + d) * T::channels + column(thread, j));
          b[j] = four.x, b[j + 1] = four.y, b[j + 2] = four.z, b[j + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
          for (int j = 0; j < T::per_channel; ++j) part[i][j] = __fmaf_rn(a[i][d], b[j], part[i][j]);
        }
      }
    }
    if (!ends) return;
#pragma unroll
    for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        sum[i][j] = __fadd_rn(sum[i][j], part[i][j]);
        part[i][j] = 0;
      }
    }
  }
};
template <class T>
using tile_sums = std::conditional_t<T::halfs, half_sums<T>, float_sums<T>>;

/// The buffers of a block.
template <class T>
[[nodiscard]] __device__ inline float* tile_memory() {
  if constexpr (T::halfs) {
    extern __shared__ uint4 half_tile_memory[];
    return reinterpret_cast<float*>(half_tile_memory);
  } else {
    __shared__ __align__(16) float memory[T::stages * T::stage_floats];
    return memory;
  }
}

/// Calls load(line, column) for what a thread loads of the packed weights of one stage, 16 bytes each.
template <class T, class Load>
__device__ void for_weight_loads(int thread, Load&& load) {
  constexpr int all = T::weight_lines * T::weight_floats / 4;
#pragma unroll
  for (int i = 0; i < (all + T::threads - 1) / T::threads; ++i) {
    int const number = thread + i * T::threads;
    if (all % T::threads == 0 || number < all) {
      load(number / (T::weight_floats / 4), number % (T::weight_floats / 4) * 4);
    }
  }
}

/// Launches a kernel that takes its buffers from tile_memory.
template <class T, auto* Kernel, class... Arguments>
void launch_tile(cudaStream_t stream, dim3 grid, Arguments const&... arguments) {
  if constexpr (T::halfs) {
    allow_shared(Kernel, T::dynamic_bytes);
  }
  Kernel<<<grid, T::threads, T::dynamic_bytes, stream>>>(arguments...);
}

/// `live_count` columns of `out` [row, live target] belong to the elements with slot[element] != dead. `Transposed`:
/// listed tiles are added to `out`; else all tiles are computed, and `out` is overwritten.
template <class T, bool Transposed>
__global__ void __launch_bounds__(T::threads, T::blocks)
    conv_product_kernel(conv_plan plan, conv_work work, index_t const* __restrict__ slot, std::size_t live_count,
                        float* out) {
  using sums = tile_sums<T>;
  float* const shared = tile_memory<T>();
  __shared__ int entry_row[T::positions], entry_u[T::positions], entry_v[T::positions];  // of tiles: row, first target

  int const thread = static_cast<int>(threadIdx.x), phase = static_cast<int>(blockIdx.z);
  int const group = static_cast<int>(blockIdx.y) % plan.groups;
  int const first_channel = static_cast<int>(blockIdx.y) / plan.groups * T::channels;
  int const phase_down = phase / plan.across.phases(), phase_across = phase % plan.across.phases();
  unsigned const tiles = static_cast<unsigned>(plan.tiles());
  unsigned const listed = Transposed ? work.counts[phase] : work.rows * tiles;
  int const tile_bits = plan.tile_bits(), across_bits = plan.across.edge_bits(), entries = T::positions >> tile_bits;
  int const tile_mask = (1 << tile_bits) - 1, across_mask = (1 << across_bits) - 1;
  unsigned const first_entry = blockIdx.x * static_cast<unsigned>(entries);
  if (first_entry >= listed) return;
  for (int e = thread; e < entries; e += T::threads) {
    unsigned const number = first_entry + static_cast<unsigned>(e);
    unsigned entry = 0;
    if (number < listed)
      entry = Transposed ? work.list[static_cast<std::size_t>(phase) * work.capacity + number] : number;
    int const tile = static_cast<int>(entry % tiles);
    entry_row[e] = static_cast<int>(entry / tiles);
    // beyond the list: a place from which no tap reaches a source
    entry_u[e] = number < listed ? tile / plan.across.tiles() * plan.down.edge() : -(1 << 24);
    entry_v[e] = tile % plan.across.tiles() * plan.across.edge();
  }
  __syncthreads();

  // Loads: a thread takes 4 terms of a position.
  constexpr int loaders = T::depth / 4, apart = T::threads / loaders;  // threads of a position; positions of two loads
  conv_taps const taps_down = plan.down.taps(phase_down), taps_across = plan.across.taps(phase_across);
  int const source_height = plan.down.source, source_width = plan.across.source;
  int const source_channels = plan.source_padded(), source_pitch = plan.source_pitch();
  int source_u[T::source_loads], source_v[T::source_loads];
  unsigned source_at[T::source_loads];  // of tap offset 0, channel 0
#pragma unroll
  for (int i = 0; i < T::source_loads; ++i) {
    int const position = thread / loaders + i * apart, entry = position >> tile_bits;
    int const local = position & tile_mask;
    source_u[i] = (entry_u[entry] + (local >> across_bits)) * plan.down.pace();
    source_v[i] = (entry_v[entry] + (local & across_mask)) * plan.across.pace();
    source_at[i] = ((static_cast<unsigned>(entry_row[entry]) * static_cast<unsigned>(source_height) +
                     static_cast<unsigned>(source_u[i])) *
                        static_cast<unsigned>(source_width) +
                    static_cast<unsigned>(source_v[i])) *
                       static_cast<unsigned>(source_pitch) +
                   static_cast<unsigned>(group * source_channels);
  }
  int const target_padded = plan.target_padded(), terms = plan.terms();  // loops: once is enough
  float const* const packed =
      work.packed +
      static_cast<std::size_t>(phase * plan.groups + group) * static_cast<std::size_t>(terms * target_padded) +
      first_channel * T::together;

  // Where the loads are: term (tap p, tap q, channel) of this thread.
  int channel = thread % loaders * 4, p = 0, q = 0, at_down = taps_down.offset, at_across = taps_across.offset;
  auto const settle = [&] {
    while (channel >= source_channels) {
      channel -= source_channels;
      at_across += taps_across.shift;
      if (++q == taps_across.count) {
        q = 0;
        at_across = taps_across.offset;
        at_down += taps_down.shift;
        ++p;
      }
    }
  };
  settle();
  auto const fetch = [&](int stage, int step) {
    float* const sources = shared + stage * T::stage_floats;
    float* const weights = sources + T::positions * T::pitch;
    unsigned const tap = static_cast<unsigned>((at_down * source_width + at_across) * source_pitch + channel);
    bool const any = p < taps_down.count;
#pragma unroll
    for (int i = 0; i < T::source_loads; ++i) {
      bool const inside = any && static_cast<unsigned>(source_u[i] + at_down) < static_cast<unsigned>(source_height) &&
                          static_cast<unsigned>(source_v[i] + at_across) < static_cast<unsigned>(source_width);
      copy_or_zero(sources + (thread / loaders + i * apart) * T::pitch + thread % loaders * 4,
                   work.dense + (inside ? source_at[i] + tap : 0u), inside);
    }
    for_weight_loads<T>(thread, [&](int line, int column) {
      int const term = step * T::depth + line * T::together;
      bool const inside = T::depth == conv_plan::depth || term < terms;
      copy_or_zero(weights + line * T::weight_pitch + column, packed + (inside ? term * target_padded + column : 0),
                   inside);
    });
    channel += T::depth;
    settle();
  };

  sums all;
  all.clear();
  if constexpr (T::halfs) {
#pragma unroll
    for (int i = 0; i < sums::per_position; ++i) {
      int const entry = sums::position(thread, i) >> tile_bits;
      all.scale[i] =
          scale_of(__uint_as_float(work.boxes[entry_row[entry] * static_cast<int>(conv_plan::box_words) + 4]));
    }
  }
  int const steps = (taps_down.count * taps_across.count * source_channels + T::depth - 1) / T::depth;
#pragma unroll
  for (int s = 0; s + 1 < T::stages; ++s) {
    if (s < steps) fetch(s, s);
    __pipeline_commit();
  }
  int stage = 0, next = T::stages - 1;
  for (int step = 0; step < steps; ++step) {
    __pipeline_wait_prior(T::stages - 2);
    __syncthreads();  // this stage has come for all threads, and all have done with the one that is loaded now
    if (step + T::stages - 1 < steps) fetch(next, step + T::stages - 1);
    __pipeline_commit();
    float const* const sources = shared + stage * T::stage_floats;
    float const* const weights = sources + T::positions * T::pitch;
    if constexpr (T::halfs) {
      all.add_chain(thread, sources, weights);
    } else {
      all.add_terms(thread, sources, weights, step % 2 == 1 || step + 1 == steps);
    }
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    next = next + 1 == T::stages ? 0 : next + 1;
  }

  if constexpr (T::halfs) all.unscale(work.weight_scale);
  // Two positions at a time: their reads are on the way together.
  int const target_positions = plan.target_positions();
#pragma unroll
  for (int i = 0; i < sums::per_position; i += 2) {
    float* line[2];
    index_t to[2][T::per_channel];
    float old[2][T::per_channel];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int const position = sums::position(thread, i + h), entry = position >> tile_bits;
      int const local = position & tile_mask;
      int const u = entry_u[entry] + (local >> across_bits), v = entry_v[entry] + (local & across_mask);
      bool const inside = u >= 0 && u < plan.down.length(phase_down) && v < plan.across.length(phase_across);
      int const at =
          inside ? (u * plan.down.phases() + phase_down) * plan.across.target + v * plan.across.phases() + phase_across
                 : 0;
      line[h] = out + static_cast<std::size_t>(entry_row[entry]) * live_count;
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        int const target = first_channel + sums::column(thread, j);
        bool const wanted = inside && target < plan.target_channels;
        to[h][j] =
            wanted ? __ldg(slot + (group * plan.target_channels + target) * target_positions + at) : stage_state::dead;
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        // a sum of 0 is not added: then a tile that is not listed leaves the same bits
        if (Transposed && all.sum[i + h][j] == 0) to[h][j] = stage_state::dead;
        old[h][j] = Transposed && !work.cleared && to[h][j] != stage_state::dead ? line[h][to[h][j]] : 0.0f;
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        if (to[h][j] != stage_state::dead) line[h][to[h][j]] = __fadd_rn(old[h][j], all.sum[i + h][j]);
      }
    }
  }
}

template <class T>
void launch_conv_product(cudaStream_t stream, conv_plan const& plan, conv_work const& work, stage_state const& target,
                         float* out) {
  std::size_t const most = static_cast<std::size_t>(work.rows) * static_cast<std::size_t>(plan.tiles());
  dim3 const grid(blocks_for(most, std::size_t{T::positions} >> plan.tile_bits()),
                  static_cast<unsigned>(plan.groups * (plan.target_padded() / plan.tile_channels())),
                  static_cast<unsigned>(plan.phases()));
  if (plan.transposed()) {
    launch_tile<T, &conv_product_kernel<T, true>>(stream, grid, plan, work, target.slot, target.live_count, out);
  } else if constexpr (!T::halfs) {
    launch_tile<T, &conv_product_kernel<T, false>>(stream, grid, plan, work, target.slot, target.live_count, out);
  }
  check_launch("conv_product");
}

/// The product of one chunk. Cost: 2 * targets of the tiles * terms * target channels FLOP.
template <conv_numbers Numbers>
void conv_product(cudaStream_t stream, conv_plan const& plan, conv_work const& work, stage_state const& target,
                  float* out) {
  constexpr bool halfs = Numbers == conv_numbers::halfs;
  switch (plan.tile_channels()) {
    case 4:
      return launch_conv_product<conv_tile_4>(stream, plan, work, target, out);
    case 16:
      return launch_conv_product<conv_tile_16>(stream, plan, work, target, out);
    case 32:
      return launch_conv_product<std::conditional_t<halfs, half_conv_tile_32, conv_tile_32>>(stream, plan, work, target,
                                                                                             out);
    default:
      return launch_conv_product<std::conditional_t<halfs, half_conv_tile_64, conv_tile_64>>(stream, plan, work, target,
                                                                                             out);
  }
}

}  // namespace hull::cuda
