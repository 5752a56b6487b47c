// SPDX-License-Identifier: Apache-2.0
// What comes before the product of a convolution: weights are packed, live columns are expanded into the dense buffer,
// and the tiles that a row can reach are listed. Rows that started at a neuron of a convolution are 0 outside a window.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/conv_plan.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_tile_product.cuh>

namespace hull::cuda {

/// What is packed for a term and a target channel in `block`, a pair of phase and group. `weight` [out channel, in
/// channel of the group, kernel height, kernel width].
__device__ inline float conv_packed(conv_plan const& plan, float const* weight, int block, int term, int target) {
  int const group = block % plan.groups, phase = block / plan.groups;
  int const tap = term / plan.source_padded(), source = term % plan.source_padded();
  conv_taps const down = plan.down.taps(phase / plan.across.phases());
  conv_taps const across = plan.across.taps(phase % plan.across.phases());
  float value = 0;
  if (target < plan.target_channels && source < plan.source_channels && tap < down.count * across.count) {
    int const outs = plan.transposed() ? plan.source_channels : plan.target_channels;
    int const ins = plan.transposed() ? plan.target_channels : plan.source_channels;
    int const o = plan.transposed() ? source : target, in = plan.transposed() ? target : source;
    int const p = down.first + tap / across.count * down.step, q = across.first + tap % across.count * across.step;
    std::size_t const filter = static_cast<std::size_t>(group * outs + o) * static_cast<std::size_t>(ins);
    value = weight[((filter + static_cast<std::size_t>(in)) * static_cast<std::size_t>(plan.down.kernel) +
                    static_cast<std::size_t>(p)) *
                       static_cast<std::size_t>(plan.across.kernel) +
                   static_cast<std::size_t>(q)];
  }
  return value;
}

static __global__ void conv_pack_kernel(conv_plan plan, float const* weight, float* packed, std::size_t count) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const width = static_cast<std::size_t>(plan.target_padded());
  std::size_t const depth = static_cast<std::size_t>(plan.terms());
  int const target = static_cast<int>(i % width), term = static_cast<int>(i / width % depth);
  packed[i] = conv_packed(plan, weight, static_cast<int>(i / width / depth), term, target);
}
/// As pairs of halfs: [phase, group, term / 4, target channel] of split_weights.
static __global__ void conv_pack_halfs_kernel(conv_plan plan, float const* weight, uint4* packed, std::size_t count,
                                              float scale) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const width = static_cast<std::size_t>(plan.target_padded());
  std::size_t const quads = static_cast<std::size_t>(plan.terms() / 4);
  int const target = static_cast<int>(i % width), quad = static_cast<int>(i / width % quads);
  float x[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    x[k] = conv_packed(plan, weight, static_cast<int>(i / width / quads), quad * 4 + k, target);
  }
  packed[i] = split_weights(x, scale);
}

inline constexpr int expand_edge = 32;  // positions and channels that a block of conv_expand_kernel turns
inline constexpr int expand_lines = 8;  // warps of it

/// Blocks: x tiles of positions and (padded) channels, y rows. `a` [row, live source].
/// Where `boxes` is given, it was 0 before and gets the box of positions whose values are not 0, as maxima that 0 is
/// below: [height - first row, last row + 1, width - first column, last column + 1]. NaN is not 0. `Scaled`: the fifth
/// is the bits of the largest magnitude, of which those of NaN and infinity are the largest.
template <bool Scaled>
__global__ void __launch_bounds__(expand_edge* expand_lines)
    conv_expand_kernel(conv_plan plan, index_t const* slot, std::size_t live_count, float const* a, float* dense,
                       unsigned* boxes) {
  __shared__ float turned[expand_edge][expand_edge + 1];
  constexpr int words = Scaled ? 5 : 4;
  __shared__ unsigned box[words];
  int const lane = static_cast<int>(threadIdx.x), line = static_cast<int>(threadIdx.y);
  std::size_t const r = blockIdx.y;
  int const positions = plan.source_positions(), pitch = plan.source_pitch(), each = plan.source_padded();
  int const across_tiles = (positions + expand_edge - 1) / expand_edge;
  int const first_position = static_cast<int>(blockIdx.x) % across_tiles * expand_edge;
  int const first_channel = static_cast<int>(blockIdx.x) / across_tiles * expand_edge;
  if (line == 0 && lane < words) box[lane] = 0;
  __syncthreads();

  // the channel of the layer at a place of the pitch, or -1 in a gap; divisions take longer than all the rest
  auto const channel_at = [&](int place) {
    if (plan.groups == 1) return place < plan.source_channels ? place : -1;
    int const in_group = place % each;
    return place < pitch && in_group < plan.source_channels ? place / each * plan.source_channels + in_group : -1;
  };
  bool any = false;
  unsigned largest = 0;
  constexpr int reads = expand_edge / expand_lines;  // of a thread, on the way together
  float value[reads];
#pragma unroll
  for (int k = 0; k < reads; ++k) {
    int const position = first_position + lane, channel = channel_at(first_channel + line + k * expand_lines);
    index_t const at = position < positions && channel >= 0 ? slot[channel * positions + position] : stage_state::dead;
    value[k] = at != stage_state::dead ? a[r * live_count + at] : 0.0f;
  }
#pragma unroll
  for (int k = 0; k < reads; ++k) {
    any = any || value[k] != 0;
    if constexpr (Scaled) largest = max(largest, __float_as_uint(value[k]) & 0x7fffffffU);
    turned[line + k * expand_lines][lane] = value[k];
  }
  if (boxes != nullptr && any) {
    int const i = (first_position + lane) / plan.across.source, j = (first_position + lane) % plan.across.source;
    atomicMax(box + 0, static_cast<unsigned>(plan.down.source - i));
    atomicMax(box + 1, static_cast<unsigned>(i + 1));
    atomicMax(box + 2, static_cast<unsigned>(plan.across.source - j));
    atomicMax(box + 3, static_cast<unsigned>(j + 1));
  }
  if constexpr (Scaled) {
    largest = __reduce_max_sync(~0U, largest);
    if (lane == 0) atomicMax(box + 4, largest);
  }
  __syncthreads();
  if (boxes != nullptr && line == 0 && lane < words && box[lane] != 0) {
    atomicMax(boxes + conv_plan::box_words * r + lane, box[lane]);
  }
#pragma unroll
  for (int k = 0; k < reads; ++k) {
    int const p = line + k * expand_lines, position = first_position + p, channel = first_channel + lane;
    if (position < positions && channel < pitch) {
      dense[(r * static_cast<std::size_t>(positions) + static_cast<std::size_t>(position)) *
                static_cast<std::size_t>(pitch) +
            static_cast<std::size_t>(channel)] = turned[lane][p];
    }
  }
}

/// Lists, for every phase, the tiles that the boxes reach. A warp takes a row. The order of a list varies from run to
/// run; nothing depends on it.
static __global__ void conv_list_kernel(conv_plan plan, conv_work work) {
  unsigned const lane = threadIdx.x % warp, r = blockIdx.x * (blockDim.x / warp) + threadIdx.x / warp;
  if (r >= work.rows) return;
  unsigned const* const box = work.boxes + conv_plan::box_words * r;
  if (box[1] == 0) return;
  int const top = plan.down.source - static_cast<int>(box[0]), bottom = static_cast<int>(box[1]) - 1;
  int const left = plan.across.source - static_cast<int>(box[2]), right = static_cast<int>(box[3]) - 1;
  unsigned const row_tiles = static_cast<unsigned>(plan.tiles());
  for (int phase = 0; phase < plan.phases(); ++phase) {
    conv_span const down = plan.down.touched(phase / plan.across.phases(), top, bottom);
    conv_span const across = plan.across.touched(phase % plan.across.phases(), left, right);
    unsigned const count = static_cast<unsigned>(down.count * across.count);
    if (count == 0) continue;
    unsigned first = 0;
    if (lane == 0) first = atomicAdd(work.counts + phase, count);
    first = __shfl_sync(~0u, first, 0);
    unsigned* const list = work.list + static_cast<std::size_t>(phase) * work.capacity + first;
    for (unsigned t = lane; t < count; t += warp) {
      unsigned const width = static_cast<unsigned>(across.count);
      unsigned const i = static_cast<unsigned>(down.first) + t / width;
      unsigned const j = static_cast<unsigned>(across.first) + t % width;
      list[t] = r * row_tiles + i * static_cast<unsigned>(plan.across.tiles()) + j;
    }
  }
}

template <conv_numbers Numbers>
void conv_pack(cudaStream_t stream, conv_plan const& plan, float const* weight, conv_work const& work) {
  if (Numbers == conv_numbers::halfs && plan.has_half_tile()) {
    std::size_t const count = plan.packed_floats() / 4;
    conv_pack_halfs_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(
        plan, weight, reinterpret_cast<uint4*>(work.packed), count, work.weight_scale);
  } else {
    std::size_t const count = plan.packed_floats();
    conv_pack_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(plan, weight, work.packed, count);
  }
  check_launch("conv_pack");
}

/// The rows of a chunk, `a` [work.rows, live source]; boxes if the plan lists tiles.
template <conv_numbers Numbers>
void conv_expand(cudaStream_t stream, conv_plan const& plan, conv_work const& work, stage_state const& source,
                 float const* a) {
  if (plan.transposed()) {
    check(cudaMemsetAsync(work.counts, 0, (plan.count_words() + conv_plan::box_words * work.rows) * sizeof(unsigned),
                          stream),
          "conv_expand");
  }
  unsigned const tiles = blocks_for(static_cast<std::size_t>(plan.source_positions()), expand_edge) *
                         blocks_for(static_cast<std::size_t>(plan.source_pitch()), expand_edge);
  conv_expand_kernel<Numbers == conv_numbers::halfs>
      <<<dim3(tiles, work.rows), dim3(expand_edge, expand_lines), 0, stream>>>(
          plan, source.slot, source.live_count, a, work.dense, plan.transposed() ? work.boxes : nullptr);
  check_launch("conv_expand");
  if (plan.transposed()) {
    conv_list_kernel<<<blocks_for(work.rows, 4), 4 * warp, 0, stream>>>(plan, work);
    check_launch("conv_list");
  }
}

}  // namespace hull::cuda
