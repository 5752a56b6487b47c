// SPDX-License-Identifier: Apache-2.0
// Heads whose elements are short sums with fixed coefficients: sums, pools of means, slices, transposes, joins.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/interval_step.hpp>
#include <hull/backend/operands.hpp>

namespace hull::cpu {

/// Zeroes the buffers to which this head contributes first.
template <std::size_t N>
void clear(std::size_t rows, std::array<stage_state const*, N> const& x, std::array<float*, N> const& out,
           std::array<bool, N> const& overwrite) {
  for (std::size_t i = 0; i < N; ++i) {
    if (overwrite[i]) std::fill_n(out[i], rows * x[i]->live_count, 0.0f);
  }
}

template <class S, class R>
void sparse_forward(operands<S, stage_state const*> const& x, stage_state const& y, std::size_t batch) {
  parallel_ranges(S::size, 256, 8 * batch, [&](std::size_t first, std::size_t last) {
    for (std::size_t b = 0; b < batch; ++b) {
      for (std::size_t k = first; k < last; ++k) {
        affine_sums sum;
        std::size_t count = 0;
        for_terms<S>(k, [&](std::size_t input, std::size_t index, float coefficient) {
          std::size_t const at = b * x[input]->size + index;
          double const weight = coefficient, product = weight * x[input]->centre[at];
          sum.centre += product;
          sum.magnitude += std::fabs(product);
          sum.radius += std::fabs(weight) * x[input]->spread[at];
          ++count;
        });
        store_interval<R>(y, b * S::size + k, sum, count, !S::head::exact);
      }
    }
  });
}

/// Adds row r's coefficient `value` of element k to the operands' coefficients.
template <class S>
inline void sparse_spread(operands<S, stage_state const*> const& x, operands<S, float*> const& a, std::size_t r,
                          std::size_t k, float value) {
  for_terms<S>(k, [&](std::size_t input, std::size_t index, float coefficient) {
    index_t const slot = x[input]->slot[index];
    if (slot != stage_state::dead) a[input][r * x[input]->live_count + slot] += value * coefficient;
  });
}

template <class S>
void sparse_seed(row_block const& rows, operands<S, stage_state const*> const& x, operands<S, float*> const& a) {
  for (std::size_t r = 0; r < rows.count; ++r) sparse_spread<S>(x, a, r, rows.index[r], rows.sign[r]);
}

/// The operands' coefficients must have been set to zero or by other stages before.
template <class S>
void sparse_backward(std::size_t rows, stage_state const& y, float const* a_y, operands<S, stage_state const*> const& x,
                     operands<S, float*> const& a) {
  parallel_ranges(rows, 1, 4 * y.live_count, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float const* const row = a_y + r * y.live_count;
      for (std::size_t c = 0; c < y.live_count; ++c) {
        if (row[c] != 0) sparse_spread<S>(x, a, r, y.live[c], row[c]);
      }
    }
  });
}

}  // namespace hull::cpu
