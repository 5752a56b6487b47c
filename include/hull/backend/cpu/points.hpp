// SPDX-License-Identifier: Apache-2.0
// From points to points: one deviation from the centres per row, carried from the outputs of a head's operands to the
// head. Linear, because bias and centres are in the origin. Plain float: only optimisers read the result.
#pragma once

#include <algorithm>
#include <cstring>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/linear.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/cpu/sparse.hpp>

namespace hull::cpu {

/// d_y [rows, live y] (+)= d_x [rows, live x] W^T, for the columns of x in the block. `scratch`: block_floats floats.
inline void linear_points(column_block const& w, std::size_t rows, stage_state const& x, float const* d_x,
                          stage_state const& y, float* d_y, float* scratch) {
  row_range const mine = live_in(x, w);
  index_t const* const live = x.live + mine.first;
  product(
      d_x + mine.first, x.live_count, rows, mine.size(), y.live_count,
      [&](std::size_t k, std::size_t j) { return w.weight[y.live[j] * w.stride + live[k] - w.first]; }, d_y,
      y.live_count, w.first == 0, scratch);
}

/// d_y = the convolution of d_x at the live outputs. `scratch`: as for convolve.
inline void conv_points(conv_weights const& w, std::size_t rows, stage_state const& x, float const* d_x,
                        stage_state const& y, float* d_y, float* scratch) {
  convolve(
      w, rows, [&](std::size_t i) { return w.weight[i]; },
      [&](std::size_t r, float* dense) {
        std::memset(dense, 0, x.size * sizeof(float));
        float const* const row = d_x + r * x.live_count;
        for (std::size_t c = 0; c < x.live_count; ++c) dense[x.live[c]] = row[c];
        return dense;
      },
      [&](std::size_t element) { return y.slot[element] != stage_state::dead; },
      [&](std::size_t r, std::size_t element, float value) {
        index_t const slot = y.slot[element];
        if (slot != stage_state::dead) d_y[r * y.live_count + slot] = value;
      },
      scratch);
}

template <class S>
void sparse_points(std::size_t rows, operands<S, stage_state const*> const& x, operands<S, float*> const& d_x,
                   stage_state const& y, float* d_y) {
  parallel_ranges(rows, 1, 4 * y.live_count, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      for (std::size_t c = 0; c < y.live_count; ++c) {
        float sum = 0;
        for_terms<S>(y.live[c], [&](std::size_t input, std::size_t index, float coefficient) {
          index_t const slot = x[input]->slot[index];
          if (slot != stage_state::dead) sum += coefficient * d_x[input][r * x[input]->live_count + slot];
        });
        d_y[r * y.live_count + c] = sum;
      }
    }
  });
}

/// The head as a function of its pick.
inline void max_points(row_block const& rows, stage_state const& x, float const* d_x, stage_state const& y,
                       float* d_y) {
  parallel_ranges(rows.count, 1, 2 * y.live_count, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      index_t const* const pick = y.pick + rows.box[r] * y.size;
      for (std::size_t c = 0; c < y.live_count; ++c) {
        index_t const slot = x.slot[pick[y.live[c]]];
        d_y[r * y.live_count + c] = slot == stage_state::dead ? 0.0f : d_x[r * x.live_count + slot];
      }
    }
  });
}

}  // namespace hull::cpu
