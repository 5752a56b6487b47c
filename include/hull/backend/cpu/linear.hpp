// SPDX-License-Identifier: Apache-2.0
// Linear on the CPU: interval step in one pass over W; backward product on live rows and columns of W only.
#pragma once

#include <algorithm>
#include <cmath>

#include <hull/backend/cpu/lanes.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/interval_step.hpp>
#include <hull/net/blocks.hpp>
#include <hull/propagate/share.hpp>

namespace hull::cpu {

/// What Linear needs beside the blocks of its matrix W [out, in] (net/blocks.hpp): bias [out] and shape.
struct linear_weights final {
  float const* bias = nullptr;
  std::size_t out = 0, in = 0;
  bool rounded = false;
};

/// Live columns of a stage whose elements are in a block of columns: [first, last) of its list.
[[nodiscard]] inline row_range live_in(stage_state const& x, column_block const& w) {
  auto const begin = x.live, end = x.live + x.live_count;
  auto const at = [&](std::size_t i) { return static_cast<std::size_t>(std::lower_bound(begin, end, i) - begin); };
  return {at(w.first), at(w.last)};
}

/// Batches from this size on take linear_forward_batch.
inline constexpr std::size_t least_product_batch = 16;

/// Interval of the head for many boxes under `Nearest`, as one product in single precision: the attack lives on it.
/// `scratch`: 2 [batch, out] floats behind block_floats. `blocks(f)` calls f for the blocks of W.
template <class Blocks>
void linear_forward_batch(linear_weights w, Blocks&& blocks, stage_state const& x, stage_state const& y,
                          std::size_t batch, float* scratch) {
  float* const centre = scratch + block_floats;
  float* const radius = centre + batch * w.out;
  bool const points = std::all_of(x.spread, x.spread + batch * w.in, [](float r) { return r == 0; });
  blocks([&](column_block const& part) {
    std::size_t const width = part.last - part.first;
    bool const begins = part.first == 0;
    product(
        x.centre + part.first, w.in, batch, width, w.out,
        [&](std::size_t k, std::size_t o) { return part.weight[o * part.stride + k]; }, centre, w.out, begins, scratch);
    if (points) return;
    product(
        x.spread + part.first, w.in, batch, width, w.out,
        [&](std::size_t k, std::size_t o) { return std::fabs(part.weight[o * part.stride + k]); }, radius, w.out,
        begins, scratch);
  });
  store_intervals(y, batch, centre, points ? nullptr : radius, [&](std::size_t o) { return w.bias[o]; });
}

/// Sums of the head for every box, without the bias: `sums` [batch, out]. Reads W once per box; columns are added block
/// by block.
template <class R, class Blocks>
void linear_sums(std::size_t out, std::size_t in, Blocks&& blocks, stage_state const& x, std::size_t batch,
                 affine_sums* sums) {
  blocks([&](column_block const& part) {
    std::size_t const width = part.last - part.first;
    parallel_ranges(out, 4, width * batch, [&](std::size_t first, std::size_t last) {
      for (std::size_t o = first; o < last; ++o) {
        float const* const row = part.weight + o * part.stride;
        for (std::size_t b = 0; b < batch; ++b) {
          float const* const c = x.centre + b * in + part.first;
          float const* const r = x.spread + b * in + part.first;
          lane_sums<3> partial{};
          for_lanes(width, [&](std::size_t i, std::size_t lane) {
            double const weight = row[i], product = weight * c[i];  // exact: 48 bits
            partial[0][lane] += product;
            if constexpr (R::outward) partial[1][lane] += std::fabs(product);
            partial[2][lane] += std::fabs(weight) * r[i];
          });
          affine_sums& all = sums[b * out + o];
          affine_sums const more{total(partial[0]), total(partial[1]), total(partial[2])};
          if (part.first == 0) {
            all = more;
          } else {
            all = {all.centre + more.centre, all.magnitude + more.magnitude, all.radius + more.radius};
          }
        }
      }
    });
  });
}

/// Coefficients of the operand for rows that start at neurons of this head: sign times rows of W.
inline void linear_seed(column_block const& w, row_block const& rows, stage_state const& x, float* a) {
  row_range const mine = live_in(x, w);
  parallel_ranges(rows.count, 4, mine.size(), [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float const* const row = w.weight + rows.index[r] * w.stride;
      float const sign = rows.sign[r];
      float* const out = a + r * x.live_count;
      for (std::size_t c = mine.first; c < mine.last; ++c) out[c] = sign * row[x.live[c] - w.first];
    }
  });
}

/// a_x [rows, live x] (+)= a_y [rows, live y] W, for the columns of x in the block.
inline void linear_backward(column_block const& w, std::size_t rows, stage_state const& y, float const* a_y,
                            stage_state const& x, float* a_x, bool overwrite, float* scratch) {
  row_range const mine = live_in(x, w);
  index_t const* const live = x.live + mine.first;
  product(
      a_y, y.live_count, rows, y.live_count, mine.size(),
      [&](std::size_t k, std::size_t j) { return w.weight[y.live[k] * w.stride + live[j] - w.first]; },
      a_x + mine.first, x.live_count, overwrite, scratch);
}

}  // namespace hull::cpu
