// SPDX-License-Identifier: Apache-2.0
// From the patch at the head of a Conv to the patch (or the dense coefficients) of its operand: an implicit matrix
// product. All rows have the same window, so a block takes one position of the target and many rows: it reads through
// just the taps that stay inside the source's window, no multiplication is by a zero of padding, and the order of every
// sum is a constant of the two windows.
#pragma once

#include <cstddef>
#include <cuda_pipeline.h>

#include <hull/backend/cuda/conv_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_plan.cuh>

namespace hull::cuda {

/// What a launch needs to know: `conv` is the transposed convolution between whole layers.
struct patch_step final {
  conv_plan conv{};
  patch from{}, to{};
  divisor by_source{};  // padded channels of a group of the source

  /// Channels of a group of the target lie side by side, from a multiple of 4 on; gaps behind them may be written.
  [[nodiscard]] constexpr bool plain() const {
    return to.each == to.each_padded() ? conv.groups == 1 || conv.target_channels % 4 == 0
                                       : conv.groups == 1 && to.each == to.channels;
  }
};

/// The source that a target of the window reads through tap p, or -1: source * stride + p * dilation = target.
__device__ inline int patch_source(conv_axis const& axis, int target, int p, int extent) {
  int const distance = target - p * axis.dilation;
  if (distance < 0 || distance % axis.stride != 0) return -1;
  return distance / axis.stride < extent ? distance / axis.stride : -1;
}

/// weight [out channel, in channel of the group, kernel height, kernel width] to [group, tap, source, target].
static __global__ void patch_pack_kernel(conv_plan plan, float const* weight, float* packed, std::size_t count) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const width = static_cast<std::size_t>(plan.target_padded());
  std::size_t const depth = static_cast<std::size_t>(plan.source_padded());
  int const area = plan.down.kernel * plan.across.kernel;
  int const target = static_cast<int>(i % width), source = static_cast<int>(i / width % depth);
  int const block = static_cast<int>(i / width / depth), tap = block % area, group = block / area;
  float value = 0;
  if (target < plan.target_channels && source < plan.source_channels) {
    std::size_t const filter = static_cast<std::size_t>(group * plan.source_channels + source) *
                                   static_cast<std::size_t>(plan.target_channels) +
                               static_cast<std::size_t>(target);
    value = weight[filter * static_cast<std::size_t>(area) + static_cast<std::size_t>(tap)];
  }
  packed[i] = value;
}

enum class patch_output { vectors, scalars, dense };

/// Blocks: x tiles of rows, for each all target positions; y groups and tiles of target channels. `from` has been
/// relaxed. Dense: `to` [row, live] was 0 and gets what is live; else `to` is a patch, whose gaps stay as they are.
template <class T, patch_output Output>
__global__ void __launch_bounds__(T::threads)
    patch_product_kernel(patch_step step, row_block rows, float const* __restrict__ from,
                         float const* __restrict__ packed, index_t const* __restrict__ slot, std::size_t live_count,
                         float* __restrict__ to) {
  __shared__ __align__(16) float shared[T::stages * T::stage_floats];
  __shared__ unsigned tap_source[most_patch_taps], tap_weight[most_patch_taps];

  conv_plan const& plan = step.conv;
  int const thread = static_cast<int>(threadIdx.x);
  int const group = static_cast<int>(blockIdx.y) % plan.groups;
  int const first_channel = static_cast<int>(blockIdx.y) / plan.groups * T::channels;
  int const position = static_cast<int>(blockIdx.x % static_cast<unsigned>(step.to.positions()));
  std::size_t const first_row = blockIdx.x / static_cast<unsigned>(step.to.positions()) * std::size_t{T::positions};
  int const source_padded = plan.source_padded(), target_padded = plan.target_padded();

  // Taps (p, q) through which this target reads, p slowest.
  int const target_u = position / step.to.across.extent, target_v = position % step.to.across.extent;
  auto const taps_before = [&](conv_axis const& axis, int target, int end, int extent) {
    int count = 0;
    for (int p = 0; p < end; ++p) count += patch_source(axis, target, p, extent) >= 0 ? 1 : 0;
    return count;
  };
  int const taps_across = taps_before(plan.across, target_v, plan.across.kernel, step.from.across.extent);
  int const taps = taps_across * taps_before(plan.down, target_u, plan.down.kernel, step.from.down.extent);
  for (int t = thread; t < plan.down.kernel * plan.across.kernel; t += T::threads) {
    int const p = t / plan.across.kernel, q = t % plan.across.kernel;
    int const u = patch_source(plan.down, target_u, p, step.from.down.extent);
    int const v = patch_source(plan.across, target_v, q, step.from.across.extent);
    if (u < 0 || v < 0) continue;
    int const place = taps_before(plan.down, target_u, p, step.from.down.extent) * taps_across +
                      taps_before(plan.across, target_v, q, step.from.across.extent);
    tap_source[place] = static_cast<unsigned>((u * step.from.across.extent + v) * step.from.pitch());
    tap_weight[place] = static_cast<unsigned>(t * source_padded * target_padded);
  }
  __syncthreads();

  // Loads: 4 threads take the 16 terms of a row, 4 each; a term is a pair (tap, channel), channels fastest.
  float const* source[T::source_loads];
  bool wanted[T::source_loads];
#pragma unroll
  for (int i = 0; i < T::source_loads; ++i) {
    std::size_t const row = first_row + static_cast<std::size_t>(thread / 4 + i * (T::threads / 4));
    wanted[i] = row < rows.count;
    source[i] = from + (wanted[i] ? row * step.from.floats() + static_cast<std::size_t>(group * source_padded) : 0);
  }
  float const* const weight = packed +
                              static_cast<std::size_t>(group * plan.down.kernel * plan.across.kernel) *
                                  static_cast<std::size_t>(source_padded) * static_cast<std::size_t>(target_padded) +
                              first_channel;
  auto const fetch = [&](int stage, int number) {
    float* const sources = shared + stage * T::stage_floats;
    float* const weights = sources + T::positions * T::pitch;
    int const term = number * T::depth + thread % 4 * 4;
    int const tap = static_cast<int>(step.by_source.quotient(static_cast<unsigned>(term)));
    bool const any = tap < taps;
    unsigned const at = any ? tap_source[tap] + static_cast<unsigned>(term - tap * source_padded) : 0;
#pragma unroll
    for (int i = 0; i < T::source_loads; ++i) {
      copy_or_zero(sources + (thread / 4 + i * (T::threads / 4)) * T::pitch + thread % 4 * 4, source[i] + at,
                   any && wanted[i]);
    }
#pragma unroll
    for (int load = thread; load < T::depth * T::channels / 4; load += T::threads) {
      int const line = load / (T::channels / 4), column = load % (T::channels / 4) * 4;
      int const of_tap = static_cast<int>(step.by_source.quotient(static_cast<unsigned>(number * T::depth + line)));
      bool const inside = of_tap < taps;
      unsigned const row =
          inside ? tap_weight[of_tap] +
                       static_cast<unsigned>((number * T::depth + line - of_tap * source_padded) * target_padded)
                 : 0;
      copy_or_zero(weights + line * T::channels + column, weight + row + column, inside);
    }
  };

  // The sum: threads of a row take groups of 4 channels, spread over the tile.
  int const x = thread % T::across, y = thread / T::across;
  constexpr int channel_groups = T::per_channel / 4;
  auto const channel_of = [&](int j) { return j / 4 * (T::channels / channel_groups) + x * 4 + j % 4; };
  float sum[T::per_position][T::per_channel], part[T::per_position][T::per_channel];
#pragma unroll
  for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
    for (int j = 0; j < T::per_channel; ++j) sum[i][j] = part[i][j] = 0;
  }
  int const steps = (taps * source_padded + T::depth - 1) / T::depth;
#pragma unroll
  for (int s = 0; s + 1 < T::stages; ++s) {
    if (s < steps) fetch(s, s);
    __pipeline_commit();
  }
  int stage = 0, next = T::stages - 1;
  for (int number = 0; number < steps; ++number) {
    __pipeline_wait_prior(T::stages - 2);
    __syncthreads();  // this stage has come for all threads, and all have done with the one that is loaded now
    if (number + T::stages - 1 < steps) fetch(next, number + T::stages - 1);
    __pipeline_commit();
    float const* const sources = shared + stage * T::stage_floats + y * T::pitch;
    float const* const weights = shared + stage * T::stage_floats + T::positions * T::pitch;
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
          float4 const four = *reinterpret_cast<float4 const*>(weights + (k + d) * T::channels + channel_of(j));
          b[j] = four.x, b[j + 1] = four.y, b[j + 2] = four.z, b[j + 3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
          for (int j = 0; j < T::per_channel; ++j) part[i][j] = __fmaf_rn(a[i][d], b[j], part[i][j]);
        }
      }
    }
    if (number % 2 == 1 || number + 1 == steps) {  // a chain ends
#pragma unroll
      for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
        for (int j = 0; j < T::per_channel; ++j) {
          sum[i][j] = __fadd_rn(sum[i][j], part[i][j]);
          part[i][j] = 0;
        }
      }
    }
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    next = next + 1 == T::stages ? 0 : next + 1;
  }

#pragma unroll
  for (int i = 0; i < T::per_position; ++i) {
    std::size_t const row = first_row + static_cast<std::size_t>(y + i * T::down);
    if (row >= rows.count) continue;
    if constexpr (Output == patch_output::dense) {
      int const start = static_cast<int>(rows.index[row]) % step.to.start_positions;
      int const line = step.to.down.origin(start / step.to.start_width) + target_u;
      int const column = step.to.across.origin(start % step.to.start_width) + target_v;
      if (!step.to.down.inside(line) || !step.to.across.inside(column)) continue;
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        int const channel = first_channel + channel_of(j);
        if (channel >= plan.target_channels) continue;
        index_t const at =
            slot[(group * plan.target_channels + channel) * step.to.plane() + line * step.to.across.length + column];
        if (at != stage_state::dead) to[row * live_count + at] = sum[i][j];
      }
    } else {
      float* const out = to + row * step.to.floats() + static_cast<std::size_t>(position * step.to.pitch());
#pragma unroll
      for (int j = 0; j < T::per_channel; j += Output == patch_output::vectors ? 4 : 1) {
        int const channel = first_channel + channel_of(j);
        if (channel >= plan.target_channels) continue;
        if constexpr (Output == patch_output::vectors) {
          *reinterpret_cast<float4*>(out + group * plan.target_channels + channel) =
              float4{sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
        } else {
          out[step.to.place(group * plan.target_channels + channel)] = sum[i][j];
        }
      }
    }
  }
}

template <class T>
void launch_patch_product(cudaStream_t stream, patch_step const& step, row_block const& rows, float const* from,
                          float const* packed, stage_state const& target, float* to) {
  dim3 const grid(blocks_for(rows.count, T::positions) * static_cast<unsigned>(step.to.positions()),
                  static_cast<unsigned>(step.conv.groups * (step.conv.target_padded() / step.conv.tile_channels())));
  auto const launch = [&](auto* kernel) {
    kernel<<<grid, T::threads, 0, stream>>>(step, rows, from, packed, target.slot, target.live_count, to);
  };
  if (!step.to.kept) {
    launch(&patch_product_kernel<T, patch_output::dense>);
  } else if (step.plain()) {
    launch(&patch_product_kernel<T, patch_output::vectors>);
  } else {
    launch(&patch_product_kernel<T, patch_output::scalars>);
  }
  check_launch("patch_product");
}

/// Rows from the head's patch to the operand's patch, or to its dense coefficients, which must be 0. `packed`:
/// patch_packed_floats, aligned to 16 bytes. Cost: 2 * rows * pairs (source position, tap) * channels in * out FLOP.
/// Summation: conv_roundings; an element is not added to what was there before.
inline void patch_product(cudaStream_t stream, patch_step const& step, float const* weight, row_block const& rows,
                          float const* from, float* packed, stage_state const& target, float* to) {
  std::size_t const count = patch_packed_floats(step.conv);
  patch_pack_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(step.conv, weight, packed, count);
  check_launch("patch_pack");
  switch (step.conv.tile_channels()) {
    case 4:
      return launch_patch_product<conv_tile_4>(stream, step, rows, from, packed, target, to);
    case 16:
      return launch_patch_product<conv_tile_16>(stream, step, rows, from, packed, target, to);
    case 32:
      return launch_patch_product<conv_tile_32>(stream, step, rows, from, packed, target, to);
    default:
      return launch_patch_product<conv_tile_64>(stream, step, rows, from, packed, target, to);
  }
}

}  // namespace hull::cuda
