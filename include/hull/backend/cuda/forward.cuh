// SPDX-License-Identifier: Apache-2.0
// Interval arithmetic from the operands of a stage to its head: dense, sparse and max heads (conv.cuh has the fourth).
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/interval_step.hpp>
#include <hull/backend/operands.hpp>
#include <hull/net/blocks.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cuda {

/// What Linear needs beside blocks of its matrix W [out, in] (net/blocks.hpp): bias [out] and shape.
struct linear_weights final {
  float const* bias = nullptr;
  std::size_t out = 0, in = 0;
  bool rounded = false;
};

/// One warp for each element of each box: sums in double, one pass over W, `Wide` floats at a time for each lane. Every
/// `width` columns are a sum of their own, whether they come in one block or in several: before the last block, or with
/// `keeps`, sums stay in `sums` [batch, out], without the bias.
template <class R, unsigned Wide>
__global__ void linear_forward_kernel(linear_weights w, column_block block, std::size_t width, stage_state x,
                                      stage_state y, std::size_t batch, double share, affine_sums* sums, bool keeps) {
  std::size_t const number = (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x) / warp;
  if (number >= batch * w.out) return;
  std::size_t const o = number % w.out, b = number / w.out;
  float const* const row = block.weight + o * block.stride;
  float const* const centre = x.centre + b * w.in + block.first;
  float const* const spread = x.spread + b * w.in + block.first;
  unsigned const columns = static_cast<unsigned>(block.last - block.first), step = static_cast<unsigned>(width);
  affine_sums all;
  if (block.first > 0) all = sums[number];
  for (unsigned first = 0; first < columns; first += step) {
    unsigned const last = min(first + step, columns);
    double sum = 0, magnitude = 0, radius = 0;
#pragma unroll 4
    for (unsigned i = first + threadIdx.x % warp * Wide; i < last; i += warp * Wide) {
      float weights[Wide], centres[Wide], spreads[Wide];
      if constexpr (Wide == 4) {
        *reinterpret_cast<float4*>(weights) = *reinterpret_cast<float4 const*>(row + i);
        *reinterpret_cast<float4*>(centres) = *reinterpret_cast<float4 const*>(centre + i);
        *reinterpret_cast<float4*>(spreads) = *reinterpret_cast<float4 const*>(spread + i);
      } else {
        weights[0] = row[i], centres[0] = centre[i], spreads[0] = spread[i];
      }
#pragma unroll
      for (unsigned j = 0; j < Wide; ++j) {
        double const weight = weights[j], product = weight * centres[j];  // exact: 48 bits
        sum += product;
        if constexpr (R::outward) magnitude += std::fabs(product);
        radius += std::fabs(weight) * spreads[j];
      }
    }
    all.centre += warp_sum(sum);
    if constexpr (R::outward) all.magnitude += warp_sum(magnitude);
    all.radius += warp_sum(radius);
  }
  if (threadIdx.x % warp != 0) return;
  if (keeps || block.last < w.in) {
    sums[number] = all;
    return;
  }
  double const bias = w.bias[o];
  store_interval<R>(y, number, {all.centre + bias, all.magnitude + std::fabs(bias), all.radius}, share, w.rounded);
}

/// The blocks of a matrix come one after the other, each a multiple of `width` columns wide, but for the last.
template <class R>
void linear_forward(cudaStream_t stream, linear_weights const& w, column_block const& block, std::size_t width,
                    stage_state const& x, stage_state const& y, std::size_t batch, affine_sums* sums, bool keeps) {
  constexpr unsigned threads = 128;
  unsigned const blocks = blocks_for(batch * w.out * warp, threads);
  double const share = gamma_sum(w.in + 1);
  if (w.in % 4 == 0) {  // then every row of every block begins on 16 bytes
    linear_forward_kernel<R, 4><<<blocks, threads, 0, stream>>>(w, block, width, x, y, batch, share, sums, keeps);
  } else {
    linear_forward_kernel<R, 1><<<blocks, threads, 0, stream>>>(w, block, width, x, y, batch, share, sums, keeps);
  }
  check_launch("linear_forward");
}

/// Constants of an affine head: bias[i / each] at element i; null: none.
struct head_bias final {
  float const* bias = nullptr;
  std::size_t each = 1;
};

/// Intervals of a head from the sums of its elements: the last step of a forward step that kept them.
template <class R>
__global__ void store_sums_kernel(stage_state y, std::size_t count, affine_sums const* sums, head_bias constants,
                                  double share, bool rounded) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  double const constant = constants.bias[i % y.size / constants.each];
  affine_sums const one = sums[i];
  store_interval<R>(y, i, {one.centre + constant, one.magnitude + std::fabs(constant), one.radius}, share, rounded);
}

/// Operands of a head as a kernel takes them.
template <class S>
struct operand_states final {
  stage_state of[S::input_count == 0 ? 1 : S::input_count];
};
template <class S>
[[nodiscard]] operand_states<S> by_value(operands<S, stage_state const*> const& x) {
  operand_states<S> states;
  for (std::size_t i = 0; i < x.size(); ++i) states.of[i] = *x[i];
  return states;
}

template <class S, class R>
__global__ void sparse_forward_kernel(operand_states<S> x, stage_state y, std::size_t batch) {
  std::size_t const number = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (number >= batch * S::size) return;
  std::size_t const k = number % S::size, b = number / S::size;
  affine_sums sum;
  std::size_t count = 0;
  for_terms<S>(k, [&](std::size_t input, std::size_t index, float coefficient) {
    std::size_t const at = b * x.of[input].size + index;
    double const weight = coefficient, product = weight * x.of[input].centre[at];
    sum.centre += product;
    sum.magnitude += std::fabs(product);
    sum.radius += std::fabs(weight) * x.of[input].spread[at];
    ++count;
  });
  store_interval<R>(y, number, sum, count, !S::head::exact);
}

template <class S, class R>
void sparse_forward(cudaStream_t stream, operands<S, stage_state const*> const& x, stage_state const& y,
                    std::size_t batch) {
  constexpr unsigned threads = 128;
  sparse_forward_kernel<S, R><<<blocks_for(batch * S::size, threads), threads, 0, stream>>>(by_value<S>(x), y, batch);
  check_launch("sparse_forward");
}

/// Picks the input with the largest lower bound; see backend/cpu/max.hpp.
template <class S>
__global__ void max_forward_kernel(stage_state x, stage_state y, std::size_t batch) {
  std::size_t const number = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (number >= batch * S::size) return;
  std::size_t const k = number % S::size, b = number / S::size;
  float const* const centre = x.centre + b * x.size;
  float const* const spread = x.spread + b * x.size;
  auto const lower = [&](std::size_t i) { return down::sub(centre[i], spread[i]); };
  auto const upper = [&](std::size_t i) { return up::add(centre[i], spread[i]); };
  bool start = true, certain = true;
  std::size_t pick = 0;
  float largest_lower = 0, largest_upper = 0;
  S::head::template members<S::template operand<0>>(k, [&](std::size_t i) {
    float const low = lower(i), high = upper(i);
    if (start || low > largest_lower) pick = i;
    // NaN must survive: nothing is known of the maximum then
    largest_lower = start || low > largest_lower || std::isnan(low) ? low : largest_lower;
    largest_upper = start || high > largest_upper || std::isnan(high) ? high : largest_upper;
    start = false;
  });
  S::head::template members<S::template operand<0>>(
      k, [&](std::size_t i) { certain = certain && (i == pick || upper(i) <= largest_lower); });
  y.pick[number] = static_cast<index_t>(pick);
  y.ceiling[number] = certain ? -std::numeric_limits<float>::infinity() : largest_upper;
  y.origin[number] = centre[pick];
  y.origin_error[number] = 0;
  y.radius[number] = spread[pick];
  y.lower[number] = largest_lower;
  y.upper[number] = largest_upper;
}

template <class S>
void max_forward(cudaStream_t stream, stage_state const& x, stage_state const& y, std::size_t batch) {
  constexpr unsigned threads = 128;
  max_forward_kernel<S><<<blocks_for(batch * S::size, threads), threads, 0, stream>>>(x, y, batch);
  check_launch("max_forward");
}

}  // namespace hull::cuda
