// SPDX-License-Identifier: Apache-2.0
// Conv on the device: intervals forward, seeds, coefficients backward (a transposed convolution) and points forward.
// All pointers are the device's; all work is enqueued on the stream.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/conv_expand.cuh>
#include <hull/backend/cuda/conv_plan.cuh>
#include <hull/backend/cuda/conv_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/interval_step.hpp>
#include <hull/core/config.hpp>
#include <hull/core/extents.hpp>
#include <hull/ops/window.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cuda {

/// Filters [out, in / groups, kernel height, kernel width] and bias [out], with the shapes around them.
struct conv_weights final {
  float const* weight = nullptr;
  float const* bias = nullptr;
  window filter{};
  extents in{}, out{};
  bool rounded = false;

  [[nodiscard]] HULL_FN constexpr std::size_t in_per_group() const { return in[0] / filter.groups; }
  [[nodiscard]] HULL_FN constexpr std::size_t out_per_group() const { return out[0] / filter.groups; }
  /// Weights of one output channel.
  [[nodiscard]] HULL_FN constexpr std::size_t taps() const { return in_per_group() * filter.area(); }
  [[nodiscard]] HULL_FN constexpr std::size_t positions() const { return out[1] * out[2]; }
};

/// The taps first, ..., first + count - 1 of output number i along `axis` (of a plain convolution) are inside the
/// input.
[[nodiscard]] HULL_FN constexpr conv_span conv_inside(conv_axis const& axis, int i) {
  int const at = i * axis.stride - axis.before;  // of tap 0
  int const first = at < 0 ? (-at + axis.dilation - 1) / axis.dilation : 0;
  int const behind = at < axis.source ? (axis.source - 1 - at) / axis.dilation + 1 : 0;
  int const last = behind < axis.kernel ? behind : axis.kernel;
  return {first, last > first ? last - first : 0};
}

inline constexpr unsigned forward_parts = 8;  // of the source channels, each a warp's

/// A block takes 32 elements of the head in one box or several; a warp of it some source channels. Sums in double, in
/// an order that never changes. With `kept` they go there, without the bias.
template <class R>
__global__ void __launch_bounds__(warp* forward_parts)
    conv_forward_kernel(conv_plan plan, float const* __restrict__ weight, float const* __restrict__ bias, bool rounded,
                        stage_state x, stage_state y, std::size_t count, std::size_t terms, affine_sums* kept) {
  __shared__ affine_sums parts[forward_parts][warp];
  unsigned const lane = threadIdx.x, part = threadIdx.y;
  std::size_t const at = std::size_t{blockIdx.x} * warp + lane;
  int const positions = plan.target_positions();
  affine_sums sums;
  if (at < count) {
    std::size_t const box = at / y.size;
    int const element = static_cast<int>(at % y.size);
    int const o = element / positions, i = element % positions / plan.across.target, j = element % plan.across.target;
    conv_span const down = conv_inside(plan.down, i), across = conv_inside(plan.across, j);
    int const kernel_w = plan.across.kernel, area = plan.down.kernel * kernel_w;
    int const width = plan.across.source, plane = plan.source_positions();
    int const top = i * plan.down.stride - plan.down.before, left = j * plan.across.stride - plan.across.before;
    float const* const filter =
        weight + static_cast<std::size_t>(o) * static_cast<std::size_t>(plan.source_channels * area);
    std::size_t const base =
        box * x.size + static_cast<std::size_t>(o / plan.target_channels * plan.source_channels * plane);
    for (int channel = static_cast<int>(part); channel < plan.source_channels;
         channel += static_cast<int>(forward_parts)) {
      for (int p = down.first; p < down.first + down.count; ++p) {
        int const line = channel * plane + (top + p * plan.down.dilation) * width + left;
        for (int q = across.first; q < across.first + across.count; ++q) {
          std::size_t const from = base + static_cast<std::size_t>(line + q * plan.across.dilation);
          double const value = __ldg(filter + channel * area + p * kernel_w + q);
          double const product = value * __ldg(x.centre + from);
          sums.centre += product;
          sums.magnitude += fabs(product);
          sums.radius += fabs(value) * __ldg(x.spread + from);
        }
      }
    }
  }
  parts[part][lane] = sums;
  __syncthreads();
  if (part != 0 || at >= count) return;
  for (unsigned other = 1; other < forward_parts; ++other) {
    affine_sums const& more = parts[other][lane];
    sums = {sums.centre + more.centre, sums.magnitude + more.magnitude, sums.radius + more.radius};
  }
  if (kept != nullptr) {
    kept[at] = sums;
    return;
  }
  double const constant = bias[at % y.size / static_cast<std::size_t>(positions)];
  store_interval<R>(y, at, {sums.centre + constant, sums.magnitude + fabs(constant), sums.radius}, terms, rounded);
}

/// Intervals of the head for every box. `terms`: of one element, the bias included. `kept`: only the sums of elements,
/// without the bias, [batch, size].
template <class R>
void conv_forward(cudaStream_t stream, conv_weights const& w, stage_state const& x, stage_state const& y,
                  std::size_t batch, std::size_t terms, affine_sums* kept = nullptr) {
  std::size_t const count = batch * y.size;
  if (count == 0) return;
  conv_forward_kernel<R><<<blocks_for(count, warp), dim3(warp, forward_parts), 0, stream>>>(
      make_conv_plan(w.in, w.out, w.filter, false), w.weight, w.bias, w.rounded, x, y, count, terms, kept);
  check_launch("conv_forward");
}

/// A block takes one row; no two terms of a row share an element.
static __global__ void conv_seed_kernel(conv_plan plan, float const* weight, row_block rows, stage_state x, float* a) {
  std::size_t const r = blockIdx.x;
  int const element = static_cast<int>(rows.index[r]), positions = plan.target_positions();
  int const o = element / positions, i = element % positions / plan.across.target, j = element % plan.across.target;
  int const kernel_w = plan.across.kernel, area = plan.down.kernel * kernel_w;
  int const taps = plan.source_channels * area, plane = plan.source_positions();
  int const first_channel = o / plan.target_channels * plan.source_channels;
  float const sign = rows.sign[r];
  float const* const filter = weight + static_cast<std::size_t>(o) * static_cast<std::size_t>(taps);
  float* const out = a + r * x.live_count;
  for (int t = static_cast<int>(threadIdx.x); t < taps; t += static_cast<int>(blockDim.x)) {
    int const p = t % area / kernel_w, q = t % kernel_w;
    int const line = i * plan.down.stride + p * plan.down.dilation - plan.down.before;
    int const column = j * plan.across.stride + q * plan.across.dilation - plan.across.before;
    if (line < 0 || line >= plan.down.source || column < 0 || column >= plan.across.source) continue;
    index_t const slot = x.slot[(first_channel + t / area) * plane + line * plan.across.source + column];
    if (slot != stage_state::dead) out[slot] += sign * filter[t];
  }
}

/// a [rows, live x] += sign times the filter of the row's neuron.
inline void conv_seed(cudaStream_t stream, conv_weights const& w, row_block const& rows, stage_state const& x,
                      float* a) {
  if (rows.count == 0) return;
  conv_seed_kernel<<<static_cast<unsigned>(rows.count), 128, 0, stream>>>(make_conv_plan(w.in, w.out, w.filter, false),
                                                                          w.weight, rows, x, a);
  check_launch("conv_seed");
}

/// Chunk by chunk: `from` [rows, live source] through the product to `to` [rows, live target]. `largest`: at least the
/// largest weight's magnitude, for halfs. `cleared`: `to` is 0.
template <conv_numbers Numbers>
void conv_rows(cudaStream_t stream, conv_weights const& w, bool transposed, std::size_t rows, stage_state const& source,
               float const* from, stage_state const& target, float* to, bool cleared, float largest, float* scratch) {
  if (rows == 0 || target.live_count == 0) return;
  conv_plan const plan = make_conv_plan(w.in, w.out, w.filter, transposed);
  conv_work work(plan, scratch);
  work.weight_scale = scale_of(largest);
  work.cleared = cleared;
  conv_pack<Numbers>(stream, plan, w.weight, work);
  // chunks of one size: a last one of a few rows takes nearly as long as a full one
  std::size_t const chunks = (rows + plan.chunk_rows() - 1) / plan.chunk_rows(), chunk = (rows + chunks - 1) / chunks;
  for (std::size_t first = 0; first < rows; first += chunk) {
    work.rows = static_cast<unsigned>(std::min(chunk, rows - first));
    conv_expand<Numbers>(stream, plan, work, source, from + first * source.live_count);
    conv_product<Numbers>(stream, plan, work, target, to + first * target.live_count);
  }
}

/// a_x [rows, live x] += a_y [rows, live y] through the transposed convolution; a_x must have been set before, to 0
/// if `cleared`.
/// `scratch`: conv_scratch_floats, aligned to 16 bytes. Summation: conv_roundings. With halfs, where there is a tile
/// for them: NaN or infinity in a row makes NaN of all that the row reaches.
template <conv_numbers Numbers = conv_numbers::floats>
void conv_backward(cudaStream_t stream, conv_weights const& w, std::size_t rows, stage_state const& y, float const* a_y,
                   stage_state const& x, float* a_x, float* scratch, float largest = 0, bool cleared = false) {
  conv_rows<Numbers>(stream, w, true, rows, y, a_y, x, a_x, cleared, largest, scratch);
}

/// d_y [rows, live y] = d_x [rows, live x] through the convolution, without bias. Plain float: only optimisers read it.
inline void conv_points(cudaStream_t stream, conv_weights const& w, std::size_t rows, stage_state const& x,
                        float const* d_x, stage_state const& y, float* d_y, float* scratch) {
  conv_rows<conv_numbers::floats>(stream, w, false, rows, x, d_x, y, d_y, false, 0, scratch);
}

}  // namespace hull::cuda
