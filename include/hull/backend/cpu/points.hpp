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

/// Floats of scratch that conv_points needs for each thread, and once for the packed filters.
[[nodiscard]] constexpr std::size_t conv_point_thread_floats(extents in, extents out, window const& filter) {
  std::size_t const taps = in[0] / filter.groups * filter.area();
  return in.size() + out[1] * out[2] * (out[0] / filter.groups + taps + 1);
}
[[nodiscard]] constexpr std::size_t conv_point_packed_floats(extents in, extents out, window const& filter) {
  return filter.groups * packed_floats(in[0] / filter.groups * filter.area(), out[0] / filter.groups);
}

/// d_y = the convolution of d_x at the live outputs. Row by row: the windows of the positions that are wanted form a
/// matrix [positions, taps]; its product with the filters is the result.
inline void conv_points(conv_weights const& w, std::size_t rows, stage_state const& x, float const* d_x,
                        stage_state const& y, float* d_y, float* scratch) {
  std::size_t const outs = w.out_per_group(), taps = w.taps(), positions = w.positions();
  std::size_t const packed_group = packed_floats(taps, outs), plane = w.in[1] * w.in[2];
  window const& f = w.filter;
  for (std::size_t g = 0; g < f.groups; ++g) {
    float const* const weight = w.weight + g * outs * taps;
    for (std::size_t k = 0; k < taps; k += block_terms) {
      std::size_t const depth = std::min(block_terms, taps - k);
      float* const packed = scratch + g * packed_group + k * (packed_group / taps);
      for (std::size_t j = 0; j < outs; j += panel) {
        pack_panel(packed + j * depth, depth, j, outs,
                   [&](std::size_t term, std::size_t column) { return weight[column * taps + k + term]; });
      }
    }
  }
  float* const threads = scratch + f.groups * packed_group;
  std::size_t const thread_floats = conv_point_thread_floats(w.in, w.out, f);

  parallel_for(rows, positions * outs * taps, [&](std::size_t r) {
    float* const dense = threads + thread_number() * thread_floats;  // [in channels, plane]
    float* const windows = dense + x.size;                           // [wanted positions, taps]
    float* const result = windows + positions * taps;                // [wanted positions, out channels of a group]
    index_t* const wanted = reinterpret_cast<index_t*>(result + positions * outs);
    std::memset(dense, 0, x.size * sizeof(float));
    float const* const row = d_x + r * x.live_count;
    for (std::size_t c = 0; c < x.live_count; ++c) dense[x.live[c]] = row[c];
    float* const out = d_y + r * y.live_count;

    for (std::size_t g = 0; g < f.groups; ++g) {
      index_t const* const slots = y.slot + g * outs * positions;
      std::size_t count = 0;
      for (std::size_t at = 0; at < positions; ++at) {
        bool any = false;
        for (std::size_t o = 0; o < outs; ++o) any = any || slots[o * positions + at] != stage_state::dead;
        if (!any) continue;
        float* tap = windows + count * taps;
        std::size_t const i = at / w.out[2] * f.stride_h, j = at % w.out[2] * f.stride_w;
        for (std::size_t channel = 0; channel < w.in_per_group(); ++channel) {
          float const* const from = dense + (g * w.in_per_group() + channel) * plane;
          for (std::size_t p = 0; p < f.kernel_h; ++p) {
            std::size_t const at_row = i + p * f.dilation_h;
            bool const inside = at_row >= f.top && at_row - f.top < w.in[1];
            for (std::size_t q = 0; q < f.kernel_w; ++q) {
              std::size_t const column = j + q * f.dilation_w;
              bool const covered = inside && column >= f.left && column - f.left < w.in[2];
              *tap++ = covered ? from[(at_row - f.top) * w.in[2] + column - f.left] : 0.0f;
            }
          }
        }
        wanted[count++] = static_cast<index_t>(at);
      }
      for (std::size_t k = 0; k < taps; k += block_terms) {
        packed_product(windows + k, taps, count, scratch + g * packed_group + k * (packed_group / taps),
                       std::min(block_terms, taps - k), outs, result, outs, k == 0);
      }
      for (std::size_t u = 0; u < count; ++u) {
        for (std::size_t o = 0; o < outs; ++o) {
          index_t const slot = slots[o * positions + wanted[u]];
          if (slot != stage_state::dead) out[slot] = result[u * outs + o];
        }
      }
    }
  });
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
