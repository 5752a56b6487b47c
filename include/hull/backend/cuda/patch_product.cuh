// SPDX-License-Identifier: Apache-2.0
// From the patch at the head of a Conv to the patch (or the dense coefficients) of its operand: an implicit matrix
// product. All rows have the same window, so a block takes one position of the target and many rows: it reads through
// just the taps that stay inside the source's window, no multiplication is by a zero of padding, and the order of every
// sum is a constant of the two windows.
#pragma once

#include <cstddef>
#include <cuda_pipeline.h>
#include <type_traits>

#include <hull/backend/cuda/conv_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_plan.cuh>

namespace hull::cuda {

/// What a launch needs to know: `conv` is the convolution between whole layers, transposed on the way back.
struct patch_step final {
  conv_plan conv{};
  patch from{}, to{};
  divisor by_source{};             // padded channels of a group of the source
  divisor by_down{}, by_across{};  // strides
  float weight_scale = 0;          // of packed weights; for halfs alone

  /// Channels of a group of the target lie side by side, from a multiple of 4 on; gaps behind them may be written.
  [[nodiscard]] constexpr bool plain() const {
    return to.each == to.each_padded() ? conv.groups == 1 || conv.target_channels % 4 == 0
                                       : conv.groups == 1 && to.each == to.channels;
  }
};

/// The source that a target of the window reads through tap p, or -1: source * stride + p * dilation = target on the
/// way back, and the other way round on the way forward, where windows have all sources.
__device__ inline int patch_source(conv_axis const& axis, divisor const& by_stride, int target, int p, int extent) {
  if (!axis.transposed) return target * axis.stride + p * axis.dilation;
  int const distance = target - p * axis.dilation;
  if (distance < 0) return -1;
  int const source = static_cast<int>(by_stride.quotient(static_cast<unsigned>(distance)));
  return source * axis.stride == distance && source < extent ? source : -1;
}

/// What is packed for a source and a target channel in `block`, a pair of group and tap. weight [out channel, in
/// channel of the group, kernel height, kernel width].
__device__ inline float patch_packed(conv_plan const& plan, float const* weight, int block, int source, int target) {
  int const area = plan.down.kernel * plan.across.kernel, tap = block % area, group = block / area;
  if (target >= plan.target_channels || source >= plan.source_channels) return 0;
  int const outs = plan.transposed() ? plan.source_channels : plan.target_channels;
  int const ins = plan.transposed() ? plan.target_channels : plan.source_channels;
  int const out = plan.transposed() ? source : target, in = plan.transposed() ? target : source;
  std::size_t const filter =
      static_cast<std::size_t>(group * outs + out) * static_cast<std::size_t>(ins) + static_cast<std::size_t>(in);
  return weight[filter * static_cast<std::size_t>(area) + static_cast<std::size_t>(tap)];
}

/// To [group, tap, source, target].
static __global__ void patch_pack_kernel(conv_plan plan, float const* weight, float* packed, std::size_t count) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const width = static_cast<std::size_t>(plan.target_padded());
  std::size_t const depth = static_cast<std::size_t>(plan.source_padded());
  int const target = static_cast<int>(i % width), source = static_cast<int>(i / width % depth);
  packed[i] = patch_packed(plan, weight, static_cast<int>(i / width / depth), source, target);
}
/// As pairs of halfs: to [group, tap, source / 4, target] of split_weights.
static __global__ void patch_pack_halfs_kernel(conv_plan plan, float const* weight, uint4* packed, std::size_t count,
                                               float scale) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const width = static_cast<std::size_t>(plan.target_padded());
  std::size_t const quads = static_cast<std::size_t>(plan.source_padded() / 4);
  int const target = static_cast<int>(i % width), quad = static_cast<int>(i / width % quads);
  float x[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    x[k] = patch_packed(plan, weight, static_cast<int>(i / width / quads), quad * 4 + k, target);
  }
  packed[i] = split_weights(x, scale);
}

enum class patch_output { vectors, scalars, dense };

/// Blocks: x tiles of rows, for each all target positions; y groups and tiles of target channels. `from` has been
/// relaxed; for halfs, rows.bound holds the scale of each row (patch_relax). Dense: `to` [row, live] was 0 and gets
/// what is live; else `to` is a patch, whose gaps stay as they are.
template <class T, patch_output Output>
__global__ void __launch_bounds__(T::threads, T::blocks)
    patch_product_kernel(patch_step step, row_block rows, float const* __restrict__ from,
                         float const* __restrict__ packed, index_t const* __restrict__ slot, std::size_t live_count,
                         float* __restrict__ to) {
  using sums = tile_sums<T>;
  float* const shared = tile_memory<T>();
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
  auto const source_down = [&](int p) {
    return patch_source(plan.down, step.by_down, target_u, p, step.from.down.extent);
  };
  auto const source_across = [&](int q) {
    return patch_source(plan.across, step.by_across, target_v, q, step.from.across.extent);
  };
  auto const taps_before = [](auto const& source, int end) {
    int count = 0;
    for (int p = 0; p < end; ++p) count += source(p) >= 0 ? 1 : 0;
    return count;
  };
  int const taps_across = taps_before(source_across, plan.across.kernel);
  int const taps = taps_across * taps_before(source_down, plan.down.kernel);
  for (int t = thread; t < plan.down.kernel * plan.across.kernel; t += T::threads) {
    int const p = t / plan.across.kernel, q = t % plan.across.kernel;
    int const u = source_down(p), v = source_across(q);
    if (u < 0 || v < 0) continue;
    int const place = taps_before(source_down, p) * taps_across + taps_before(source_across, q);
    tap_source[place] = static_cast<unsigned>((u * step.from.across.extent + v) * step.from.pitch());
    tap_weight[place] = static_cast<unsigned>(t * source_padded * target_padded);
  }
  __syncthreads();

  // Loads: a thread takes 4 terms of a row; a term is a pair (tap, channel), channels fastest.
  constexpr int loaders = T::depth / 4, apart = T::threads / loaders;  // threads of a row; rows of two loads
  float const* const source = from + first_row * step.from.floats() + static_cast<std::size_t>(group * source_padded);
  unsigned const row_floats = static_cast<unsigned>(step.from.floats());
  unsigned const rows_here = static_cast<unsigned>(min(std::size_t{T::positions}, rows.count - first_row));
  float const* const weight = packed +
                              static_cast<std::size_t>(group * plan.down.kernel * plan.across.kernel) *
                                  static_cast<std::size_t>(source_padded) * static_cast<std::size_t>(target_padded) +
                              first_channel * T::together;
  auto const fetch = [&](int stage, int number) {
    float* const sources = shared + stage * T::stage_floats;
    float* const weights = sources + T::positions * T::pitch;
    int const term = number * T::depth + thread % loaders * 4;
    int const tap = static_cast<int>(step.by_source.quotient(static_cast<unsigned>(term)));
    bool const any = tap < taps;
    unsigned const at = any ? tap_source[tap] + static_cast<unsigned>(term - tap * source_padded) : 0;
#pragma unroll
    for (int i = 0; i < T::source_loads; ++i) {
      unsigned const row = static_cast<unsigned>(thread / loaders + i * apart);
      bool const inside = any && row < rows_here;
      copy_or_zero(sources + row * T::pitch + thread % loaders * 4, source + (inside ? row * row_floats + at : 0u),
                   inside);
    }
    for_weight_loads<T>(thread, [&](int line, int column) {
      int const of_line = number * T::depth + line * T::together;
      int const of_tap = static_cast<int>(step.by_source.quotient(static_cast<unsigned>(of_line)));
      bool const inside = of_tap < taps;
      unsigned const row =
          inside ? tap_weight[of_tap] + static_cast<unsigned>((of_line - of_tap * source_padded) * target_padded) : 0;
      copy_or_zero(weights + line * T::weight_pitch + column, weight + row + column, inside);
    });
  };

  sums all;
  all.clear();
  if constexpr (T::halfs) {
#pragma unroll
    for (int i = 0; i < sums::per_position; ++i) {
      std::size_t const row = first_row + static_cast<std::size_t>(sums::position(thread, i));
      all.scale[i] = row < rows.count ? static_cast<float>(rows.bound[row]) : 1.0f;
    }
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
    float const* const sources = shared + stage * T::stage_floats;
    float const* const weights = sources + T::positions * T::pitch;
    if constexpr (T::halfs) {
      all.add_chain(thread, sources, weights);
    } else {
      all.add_terms(thread, sources, weights, number % 2 == 1 || number + 1 == steps);
    }
    stage = stage + 1 == T::stages ? 0 : stage + 1;
    next = next + 1 == T::stages ? 0 : next + 1;
  }

  if constexpr (T::halfs) all.unscale(step.weight_scale);
#pragma unroll
  for (int i = 0; i < sums::per_position; ++i) {
    std::size_t const row = first_row + static_cast<std::size_t>(sums::position(thread, i));
    if (row >= rows.count) continue;
    if constexpr (Output == patch_output::dense) {
      int const start = static_cast<int>(rows.index[row]) % step.to.start_positions;
      int const line = step.to.down.origin(start / step.to.start_width) + target_u;
      int const column = step.to.across.origin(start % step.to.start_width) + target_v;
      if (!step.to.down.inside(line) || !step.to.across.inside(column)) continue;
#pragma unroll
      for (int j = 0; j < T::per_channel; ++j) {
        int const channel = first_channel + sums::column(thread, j);
        if (channel >= plan.target_channels) continue;
        index_t const at =
            slot[(group * plan.target_channels + channel) * step.to.plane() + line * step.to.across.length + column];
        if (at != stage_state::dead) to[row * live_count + at] = all.sum[i][j];
      }
    } else {
      float* const out = to + row * step.to.floats() + static_cast<std::size_t>(position * step.to.pitch());
#pragma unroll
      for (int j = 0; j < T::per_channel; j += Output == patch_output::vectors ? 4 : 1) {
        int const channel = first_channel + sums::column(thread, j);
        if (channel >= plan.target_channels) continue;
        if constexpr (Output == patch_output::vectors) {
          *reinterpret_cast<float4*>(out + group * plan.target_channels + channel) =
              float4{all.sum[i][j], all.sum[i][j + 1], all.sum[i][j + 2], all.sum[i][j + 3]};
        } else {
          out[step.to.place(group * plan.target_channels + channel)] = all.sum[i][j];
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
  auto const launch = [&]<patch_output Output> {
    launch_tile<T, &patch_product_kernel<T, Output>>(stream, grid, step, rows, from, packed, target.slot,
                                                     target.live_count, to);
  };
  if (!step.to.kept) {
    launch.template operator()<patch_output::dense>();
  } else if (step.plain()) {
    launch.template operator()<patch_output::vectors>();
  } else {
    launch.template operator()<patch_output::scalars>();
  }
  check_launch("patch_product");
}

/// Rows from the head's patch to the operand's patch, or to its dense coefficients, which must be 0. `packed`:
/// patch_packed_floats, aligned to 16 bytes. Cost: 2 * rows * pairs (source position, tap) * channels in * out FLOP.
/// Summation: conv_roundings; an element is not added to what was there before.
template <conv_numbers Numbers>
void patch_product(cudaStream_t stream, patch_step const& step, float const* weight, row_block const& rows,
                   float const* from, float* packed, stage_state const& target, float* to) {
  constexpr bool halfs = Numbers == conv_numbers::halfs;
  std::size_t const count = patch_packed_floats(step.conv);
  if (halfs && step.conv.has_half_tile()) {
    patch_pack_halfs_kernel<<<blocks_for(count / 4, 256), 256, 0, stream>>>(
        step.conv, weight, reinterpret_cast<uint4*>(packed), count / 4, step.weight_scale);
  } else {
    patch_pack_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(step.conv, weight, packed, count);
  }
  check_launch("patch_pack");
  switch (step.conv.tile_channels()) {
    case 4:
      return launch_patch_product<conv_tile_4>(stream, step, rows, from, packed, target, to);
    case 16:
      return launch_patch_product<conv_tile_16>(stream, step, rows, from, packed, target, to);
    case 32:
      return launch_patch_product<std::conditional_t<halfs, half_conv_tile_32, conv_tile_32>>(stream, step, rows, from,
                                                                                              packed, target, to);
    default:
      return launch_patch_product<std::conditional_t<halfs, half_conv_tile_64, conv_tile_64>>(stream, step, rows, from,
                                                                                              packed, target, to);
  }
}

}  // namespace hull::cuda
