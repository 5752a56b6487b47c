// SPDX-License-Identifier: Apache-2.0
// Linear on the CPU: interval step in one pass over W; backward product on live rows and columns of W only.
#pragma once

#include <algorithm>
#include <cmath>

#include <hull/backend/cpu/interval_step.hpp>
#include <hull/backend/cpu/lanes.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>

namespace hull::cpu {

/// W [out, in] row major and bias [out] of a dense layer.
struct linear_weights final {
  float const* weight;
  float const* bias;
  std::size_t out, in;
  bool rounded;
};

/// Batches from this size on take linear_forward_batch.
inline constexpr std::size_t least_product_batch = 16;

/// Interval of the head for many boxes under `Nearest`, as one product in single precision: the attack lives on it.
/// `scratch`: 2 [batch, out] floats behind block_floats.
inline void linear_forward_batch(linear_weights w, stage_state const& x, stage_state const& y, std::size_t batch,
                                 float* scratch) {
  float* const centre = scratch + block_floats;
  float* const radius = centre + batch * w.out;
  bool const points = std::all_of(x.spread, x.spread + batch * w.in, [](float r) { return r == 0; });
  product(
      x.centre, w.in, batch, w.in, w.out, [&](std::size_t k, std::size_t o) { return w.weight[o * w.in + k]; }, centre,
      w.out, true, scratch);
  if (!points) {
    product(
        x.spread, w.in, batch, w.in, w.out,
        [&](std::size_t k, std::size_t o) { return std::fabs(w.weight[o * w.in + k]); }, radius, w.out, true, scratch);
  }
  for (std::size_t i = 0; i < batch * w.out; ++i) {
    store_interval<Nearest>(y, i, {static_cast<double>(centre[i]) + w.bias[i % w.out], 0, points ? 0.0 : radius[i]}, 0,
                            false);
  }
}

/// Interval of the head for every box. Reads W once per box; exact sums would change less than `origin_error`.
template <class R>
void linear_forward(linear_weights w, stage_state const& x, stage_state const& y, std::size_t batch) {
  parallel_ranges(w.out, 4, w.in * batch, [&](std::size_t first, std::size_t last) {
    for (std::size_t o = first; o < last; ++o) {
      float const* const row = w.weight + o * w.in;
      for (std::size_t b = 0; b < batch; ++b) {
        float const* const c = x.centre + b * w.in;
        float const* const r = x.spread + b * w.in;
        lane_sums<3> sums{};
        for_lanes(w.in, [&](std::size_t i, std::size_t lane) {
          double const weight = row[i], product = weight * c[i];  // exact: 48 bits
          sums[0][lane] += product;
          if constexpr (R::outward) sums[1][lane] += std::fabs(product);
          sums[2][lane] += std::fabs(weight) * r[i];
        });
        double const bias = w.bias[o];
        store_interval<R>(y, b * w.out + o, {total(sums[0]) + bias, total(sums[1]) + std::fabs(bias), total(sums[2])},
                          w.in + 1, w.rounded);
      }
    }
  });
}

/// Coefficients of the operand for rows that start at neurons of this head: sign times rows of W.
inline void linear_seed(linear_weights w, row_block const& rows, stage_state const& x, float* a) {
  parallel_ranges(rows.count, 4, x.live_count, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float const* const row = w.weight + rows.index[r] * w.in;
      float const sign = rows.sign[r];
      float* const out = a + r * x.live_count;
      for (std::size_t c = 0; c < x.live_count; ++c) out[c] = sign * row[x.live[c]];
    }
  });
}

/// a_x [rows, live x] (+)= a_y [rows, live y] W.
inline void linear_backward(linear_weights w, std::size_t rows, stage_state const& y, float const* a_y,
                            stage_state const& x, float* a_x, bool overwrite, float* scratch) {
  product(
      a_y, y.live_count, rows, y.live_count, x.live_count,
      [&](std::size_t k, std::size_t j) { return w.weight[y.live[k] * w.in + x.live[j]]; }, a_x, x.live_count,
      overwrite, scratch);
}

/// Roundings of one term before it is added to a coefficient of the operand, and additions to such a coefficient.
[[nodiscard]] constexpr std::size_t linear_roundings(std::size_t out) { return 1 + std::min(out, chain); }
[[nodiscard]] constexpr std::size_t linear_additions(std::size_t out) { return product_additions(out); }

}  // namespace hull::cpu
