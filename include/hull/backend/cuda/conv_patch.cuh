// SPDX-License-Identifier: Apache-2.0
// Rows as patches (patch_plan.cuh): how they start at neurons of a Conv head, go from the output of a stage to its
// head, and end at the input. The sums of a row run over its patch in an order that is a constant of the two stages;
// columns that a patch leaves out have coefficients of 0 and give nothing to any sum.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>

namespace hull::cuda {

/// Where a row's patch lies in its layer.
struct patch_place final {
  int top, left;
};
__device__ inline patch_place place_of(patch const& at, index_t neuron) {
  int const start = static_cast<int>(neuron) % at.start_positions;
  return {at.down.origin(start / at.start_width), at.across.origin(start % at.start_width)};
}

/// One number of a patch: the place in the pitch, and the position in the layer, or -1 outside of it.
struct patch_cell final {
  int place, position;
};
__device__ inline patch_cell cell_of(patch const& at, patch_place where, unsigned number) {
  unsigned const position = at.by_pitch.quotient(number), u = at.by_width.quotient(position);
  int const line = where.top + static_cast<int>(u);
  int const column = where.left + static_cast<int>(position - u * static_cast<unsigned>(at.across.extent));
  bool const inside = at.down.inside(line) && at.across.inside(column);
  return {static_cast<int>(number - position * static_cast<unsigned>(at.pitch())),
          inside ? line * at.across.length + column : -1};
}

/// a [row, patch] = sign times the filter of the row's neuron, and 0 between its taps, which are `by_down` and
/// `by_across` apart. A block takes one row.
static __global__ void patch_seed_kernel(patch at, conv_plan plan, divisor by_down, divisor by_across,
                                         float const* __restrict__ weight, row_block rows, float* a) {
  std::size_t const r = blockIdx.x;
  int const out = static_cast<int>(rows.index[r]) / at.start_positions;
  int const kernel_w = plan.across.kernel, area = plan.down.kernel * kernel_w;
  int const first_channel = out / plan.source_channels * plan.target_channels;  // of the neuron's group
  float const* const filter =
      weight + static_cast<std::size_t>(out) * static_cast<std::size_t>(plan.target_channels * area);
  float const sign = rows.sign[r];
  float* const row = a + r * at.floats();
  unsigned const count = static_cast<unsigned>(at.floats());
  for (unsigned e = threadIdx.x; e < count; e += blockDim.x) {
    unsigned const position = at.by_pitch.quotient(e), u = at.by_width.quotient(position);
    unsigned const v = position - u * static_cast<unsigned>(at.across.extent);
    unsigned const p = by_down.quotient(u), q = by_across.quotient(v);
    int const channel = at.channel(static_cast<int>(e - position * static_cast<unsigned>(at.pitch()))) - first_channel;
    float value = 0;
    if (channel >= 0 && channel < plan.target_channels && p * by_down.by == u && q * by_across.by == v) {
      value = sign * filter[channel * area + static_cast<int>(p) * kernel_w + static_cast<int>(q)];
    }
    row[e] = value;
  }
}

/// Rows for the neurons of a Conv head that rows.index names; their value and slack start elsewhere.
inline void patch_seed(cudaStream_t stream, conv_weights const& w, patch const& at, row_block const& rows, float* a) {
  if (rows.count == 0) return;
  conv_plan const plan = make_conv_plan(w.in, w.out, w.filter, true);
  patch_seed_kernel<<<static_cast<unsigned>(rows.count), 128, 0, stream>>>(
      at, plan, divisor(plan.down.dilation), divisor(plan.across.dilation), w.weight, rows, a);
  check_launch("patch_seed");
}

/// The lines of a stage in the order of patches, [box, position, place], two records each: for coefficients that are
/// not below 0, and for the others. The error of what is dead is below 0.
struct __align__(16) patch_line final {
  float slope, shift, far, error;
};

static __global__ void patch_lines_kernel(patch at, stage_state s, std::size_t count, patch_line* lines) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  // neighbours are neighbours in the stage, where this reads 7 numbers; it writes 32 bytes
  std::size_t const plane = static_cast<std::size_t>(at.plane()), position = i % plane;
  int const pitch = at.pitch(), place = static_cast<int>(i / plane % static_cast<std::size_t>(pitch));
  std::size_t const box = i / plane / static_cast<std::size_t>(pitch);
  int const channel = at.channel(place);
  patch_line positive{0, 0, 0, -1}, negative = positive;
  index_t const slot = channel < 0 ? stage_state::dead : s.slot[static_cast<std::size_t>(channel) * plane + position];
  if (slot != stage_state::dead) {
    std::size_t const c = box * s.live_count + slot;
    positive = {s.lower_slope[c], s.lower_shift[c], s.lower_far[c], s.error[c]};
    negative = {s.upper_slope[c], s.upper_shift[c], s.upper_far[c], s.error[c]};
  }
  patch_line* const to =
      lines + 2 * ((box * plane + position) * static_cast<std::size_t>(pitch) + static_cast<std::size_t>(place));
  to[0] = positive, to[1] = negative;
}

/// What relaxing coefficients of a row adds up to.
template <bool Outward, bool Scaled>
struct relaxed_sums final {
  double of[3] = {};     // value, slack, far value
  unsigned largest = 0;  // `Scaled`: bits of magnitudes are ordered as they are; NaN comes last

  /// Coefficient x of an output; returns that of the head.
  __device__ float take(patch_line const& line, float x) {
    if (line.error < 0) return 0;  // dead; not NaN, which is an error
    float const moved = x * line.slope;
    if constexpr (Scaled) largest = max(largest, __float_as_uint(moved) & 0x7fffffffU);
    double const value = x;
    of[0] += value * static_cast<double>(line.shift);  // exact product
    if constexpr (Outward) of[1] += std::fabs(value) * static_cast<double>(line.error);
    of[2] += value * static_cast<double>(line.far);
    return moved;
  }
};

inline constexpr unsigned patch_rows = 4;  // rows of a block, one after the other: neighbours read the same lines

/// Takes rows from the output of a stage to its head, in place: relax_rows_kernel on patches. `Scaled`: rows.bound,
/// which nobody reads before a row has come to the input, becomes the scale of the row for products of halfs.
template <bool Outward, bool Scaled, unsigned Threads>
__global__ void __launch_bounds__(Threads) patch_relax_kernel(patch at, row_block rows, stage_state s, double share,
                                                              patch_line const* __restrict__ lines, float* a) {
  constexpr unsigned together = 4;  // reads that are on the way at once
  unsigned const count = static_cast<unsigned>(at.floats());
  for (unsigned n = 0; n < patch_rows; ++n) {
    std::size_t const r = std::size_t{blockIdx.x} * patch_rows + n;
    if (r >= rows.count) return;
    patch_place const where = place_of(at, rows.index[r]);
    patch_line const* const of_box =
        lines + 2 * rows.box[r] * static_cast<std::size_t>(at.plane()) * static_cast<std::size_t>(at.pitch());
    float* const row = a + r * count;
    relaxed_sums<Outward, Scaled> sums;
    for (unsigned first = threadIdx.x; first < count; first += together * Threads) {
      float x[together];
      patch_line line[together];
#pragma unroll
      for (unsigned k = 0; k < together; ++k) {
        unsigned const e = first + k * Threads;
        x[k] = e < count ? row[e] : 0.0f;
      }
#pragma unroll
      for (unsigned k = 0; k < together; ++k) {
        patch_cell const cell = cell_of(at, where, first + k * Threads);
        unsigned const of_cell = static_cast<unsigned>(cell.position) * static_cast<unsigned>(at.pitch()) +
                                 static_cast<unsigned>(cell.place);
        bool const there = first + k * Threads < count && cell.position >= 0;
        // without a branch: what is read elsewhere is not used
        float4 const four =
            __ldg(reinterpret_cast<float4 const*>(of_box + (there ? 2 * of_cell + (x[k] >= 0 ? 0U : 1U) : 0U)));
        line[k] = {four.x, four.y, four.z, there ? four.w : -1.0f};
      }
#pragma unroll
      for (unsigned k = 0; k < together; ++k) {
        float const moved = sums.take(line[k], x[k]);
        if (first + k * Threads < count) row[first + k * Threads] = moved;
      }
    }
    if constexpr (Scaled) {
      __shared__ unsigned of_warp[Threads / warp];
      unsigned largest = __reduce_max_sync(~0U, sums.largest);
      if (threadIdx.x % warp == 0) of_warp[threadIdx.x / warp] = largest;
      __syncthreads();
      if (threadIdx.x == 0) {
        for (unsigned w = 1; w < Threads / warp; ++w) largest = max(largest, of_warp[w]);
        rows.bound[r] = static_cast<double>(scale_of(__uint_as_float(largest)));
      }
    }
    block_sums<Threads>(sums.of);
    if (threadIdx.x == 0) add_constants<Outward>(rows, r, s, share, sums.of[0], sums.of[1], sums.of[2]);
  }
}

/// `scratch`: patch.line_floats, aligned to 16 bytes.
inline patch_line const* patch_lines(cudaStream_t stream, patch const& at, stage_state const& s, std::size_t boxes,
                                     float* scratch) {
  auto* const lines = reinterpret_cast<patch_line*>(scratch);
  std::size_t const count = at.line_floats(boxes) / 8;
  patch_lines_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(at, s, count, lines);
  check_launch("patch_lines");
  return lines;
}

/// Relaxes rows at the output of a stage in place.
template <class R, conv_numbers Numbers>
void patch_relax(cudaStream_t stream, patch const& at, row_block const& rows, stage_state const& s,
                 patch_line const* lines, float* a) {
  double const share = 1 + gamma_sum(s.live_count);
  unsigned const blocks = blocks_for(rows.count, patch_rows);
  // the sums of a row depend on the number of threads, so that must not depend on the number of rows
  constexpr bool scaled = Numbers == conv_numbers::halfs;
  if (at.floats() <= 1024) {
    patch_relax_kernel<R::outward, scaled, 64><<<blocks, 64, 0, stream>>>(at, rows, s, share, lines, a);
  } else {
    patch_relax_kernel<R::outward, scaled, 256><<<blocks, 256, 0, stream>>>(at, rows, s, share, lines, a);
  }
  check_launch("patch_relax");
}

/// Bound of row r at the input, whose lines are the identity: value - slack - distance, with distance = sum |A| reach.
template <bool Outward>
__device__ inline void end_row(row_block const& rows, std::size_t r, stage_state const& input, double share,
                               double distance) {
  double const slack = add_constants<Outward>(rows, r, input, share, 0, 0, 0);
  if constexpr (Outward) distance = up::add(distance * share, slack);
  rows.bound[r] = Outward ? down::sub(rows.value[r], distance) : rows.value[r] - distance;
  if (rows.far_value == nullptr) return;
  rows.far_bound[r] = Outward ? up::add(rows.far_value[r], distance) : rows.far_value[r] + distance;
}

/// Bounds of rows that have come to the input, whose lines are the identity: value - slack - sum |A| reach. A warp
/// takes a row.
template <bool Outward>
__global__ void __launch_bounds__(128)
    patch_finish_kernel(patch at, row_block rows, stage_state s, double share, float const* a) {
  unsigned const lane = threadIdx.x % warp;
  std::size_t const r = std::size_t{blockIdx.x} * (blockDim.x / warp) + threadIdx.x / warp;
  if (r >= rows.count) return;
  patch_place const where = place_of(at, rows.index[r]);
  float const* const row = a + r * at.floats();
  float const* const reach = s.reach + rows.box[r] * s.live_count;
  unsigned const count = static_cast<unsigned>(at.floats());
  double distance = 0;
  for (unsigned e = lane; e < count; e += warp) {
    patch_cell const cell = cell_of(at, where, e);
    int const channel = at.channel(cell.place);
    if (cell.position < 0 || channel < 0 || channel >= at.channels) continue;
    index_t const slot = __ldg(s.slot + channel * at.plane() + cell.position);
    if (slot == stage_state::dead) continue;
    distance += static_cast<double>(std::fabs(row[e])) * static_cast<double>(__ldg(reach + slot));
  }
  distance = warp_sum(distance);
  if (lane != 0) return;
  end_row<Outward>(rows, r, s, share, distance);
}

template <class R>
void patch_finish(cudaStream_t stream, patch const& at, row_block const& rows, stage_state const& input,
                  float const* a) {
  if (rows.count == 0) return;
  patch_finish_kernel<R::outward>
      <<<blocks_for(rows.count, 4), 128, 0, stream>>>(at, rows, input, 1 + gamma_sum(input.live_count), a);
  check_launch("patch_finish");
}

}  // namespace hull::cuda
