// SPDX-License-Identifier: Apache-2.0
// Conv on the CPU. Backward, row by row: the positions where a row has coefficients form a small matrix
// [positions, out channels]; its product with the filters gives what each position sends to its window.
#pragma once

#include <cmath>
#include <cstring>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/interval_step.hpp>
#include <hull/ops/window.hpp>

namespace hull::cpu {

/// Filters [out, in / groups, kernel height, kernel width] and bias [out], with the shapes around them.
struct conv_weights final {
  float const* weight = nullptr;
  float const* bias = nullptr;
  window filter{};
  extents in{}, out{};
  bool rounded = false;

  [[nodiscard]] std::size_t in_per_group() const { return in[0] / filter.groups; }
  [[nodiscard]] std::size_t out_per_group() const { return out[0] / filter.groups; }
  [[nodiscard]] std::size_t taps() const { return in_per_group() * filter.area(); }  // weights of one output channel
  [[nodiscard]] std::size_t positions() const { return out[1] * out[2]; }
};

/// Sums of the head for every box, without the bias: `sums` [batch, size].
inline void conv_sums(conv_weights const& w, stage_state const& x, std::size_t batch, affine_sums* sums) {
  std::size_t const plane = w.in[1] * w.in[2], width = w.out[2];
  window const& f = w.filter;
  parallel_for(w.out[0] * batch, w.taps() * w.positions(), [&](std::size_t task) {
    std::size_t const o = task % w.out[0], b = task / w.out[0];
    std::size_t const group = o / w.out_per_group();
    for (std::size_t i = 0; i < w.out[1]; ++i) {
      affine_sums* const line = sums + (b * w.out[0] + o) * w.positions() + i * width;
      std::fill_n(line, width, affine_sums{});
      float const* weight = w.weight + o * w.taps();
      for (std::size_t channel = 0; channel < w.in_per_group(); ++channel, weight += f.area()) {
        std::size_t const base = b * x.size + (group * w.in_per_group() + channel) * plane;
        for (std::size_t j = 0; j < width; ++j) {
          for (std::size_t p = 0; p < f.kernel_h; ++p) {
            std::size_t const row = i * f.stride_h + p * f.dilation_h;
            if (row < f.top || row - f.top >= w.in[1]) continue;
            for (std::size_t q = 0; q < f.kernel_w; ++q) {
              std::size_t const column = j * f.stride_w + q * f.dilation_w;
              if (column < f.left || column - f.left >= w.in[2]) continue;
              std::size_t const at = base + (row - f.top) * w.in[2] + column - f.left;
              double const value = weight[p * f.kernel_w + q], product = value * x.centre[at];
              line[j].centre += product;
              line[j].magnitude += std::fabs(product);
              line[j].radius += std::fabs(value) * x.spread[at];
            }
          }
        }
      }
    }
  });
}

inline void conv_seed(conv_weights const& w, row_block const& rows, stage_state const& x, float* a) {
  std::size_t const positions = w.positions(), plane = w.in[1] * w.in[2];
  parallel_ranges(rows.count, 8, w.taps(), [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      std::size_t const o = rows.index[r] / positions, position = rows.index[r] % positions;
      std::size_t const i = position / w.out[2], j = position % w.out[2];
      std::size_t const first_channel = o / w.out_per_group() * w.in_per_group();
      float* const out = a + r * x.live_count;
      float const* weight = w.weight + o * w.taps();
      for (std::size_t channel = first_channel; channel < first_channel + w.in_per_group(); ++channel) {
        for (std::size_t p = 0; p < w.filter.kernel_h; ++p) {
          for (std::size_t q = 0; q < w.filter.kernel_w; ++q, ++weight) {
            std::size_t const row = i * w.filter.stride_h + p * w.filter.dilation_h;
            std::size_t const column = j * w.filter.stride_w + q * w.filter.dilation_w;
            if (row < w.filter.top || row - w.filter.top >= w.in[1]) continue;
            if (column < w.filter.left || column - w.filter.left >= w.in[2]) continue;
            index_t const slot = x.slot[channel * plane + (row - w.filter.top) * w.in[2] + column - w.filter.left];
            if (slot != stage_state::dead) out[slot] += rows.sign[r] * *weight;
          }
        }
      }
    }
  });
}

/// Floats of scratch that conv_backward needs for each thread, and once for the packed filters.
[[nodiscard]] constexpr std::size_t conv_thread_floats(extents in, extents out, window const& filter) {
  std::size_t const per_group = in[0] / filter.groups * filter.area();
  return out.size() + out[1] * out[2] * (out[0] / filter.groups + per_group + 1);
}
[[nodiscard]] constexpr std::size_t conv_packed_floats(extents in, extents out, window const& filter) {
  std::size_t const per_group = in[0] / filter.groups * filter.area();
  return filter.groups * packed_floats(out[0] / filter.groups, per_group);
}

/// a_x += a_y through the transposed convolution; a_x must have been set before.
/// `scratch`: conv_packed_floats, then conv_thread_floats for each thread.
inline void conv_backward(conv_weights const& w, std::size_t rows, stage_state const& y, float const* a_y,
                          stage_state const& x, float* a_x, float* scratch) {
  std::size_t const outs = w.out_per_group(), taps = w.taps(), positions = w.positions();
  std::size_t const packed_group = packed_floats(outs, taps), plane = w.in[1] * w.in[2];
  window const& f = w.filter;
  for (std::size_t g = 0; g < f.groups; ++g) {
    float const* const weight = w.weight + g * outs * taps;
    for (std::size_t k = 0; k < outs; k += block_terms) {
      std::size_t const depth = std::min(block_terms, outs - k);
      float* const packed = scratch + g * packed_group + k * (packed_group / outs);
      for (std::size_t j = 0; j < taps; j += panel) {
        pack_panel(packed + j * depth, depth, j, taps,
                   [&](std::size_t term, std::size_t column) { return weight[(k + term) * taps + column]; });
      }
    }
  }
  float* const threads = scratch + f.groups * packed_group;
  std::size_t const thread_floats = conv_thread_floats(w.in, w.out, f);

  parallel_for(rows, positions * outs * taps, [&](std::size_t r) {
    float* const dense = threads + thread_number() * thread_floats;  // [out channels, positions]
    float* const gathered = dense + y.size;                          // [used positions, out channels of a group]
    float* const sent = gathered + positions * outs;                 // [used positions, taps]
    index_t* const used = reinterpret_cast<index_t*>(sent + positions * taps);
    std::memset(dense, 0, y.size * sizeof(float));
    float const* const row = a_y + r * y.live_count;
    for (std::size_t c = 0; c < y.live_count; ++c) dense[y.live[c]] = row[c];
    float* const out = a_x + r * x.live_count;

    for (std::size_t g = 0; g < f.groups; ++g) {
      float const* const planes = dense + g * outs * positions;
      std::size_t count = 0;
      for (std::size_t p = 0; p < positions; ++p) {
        bool any = false;
        for (std::size_t o = 0; o < outs; ++o) any = any || planes[o * positions + p] != 0;
        if (!any) continue;
        for (std::size_t o = 0; o < outs; ++o) gathered[count * outs + o] = planes[o * positions + p];
        used[count++] = static_cast<index_t>(p);
      }
      for (std::size_t k = 0; k < outs; k += block_terms) {
        packed_product(gathered + k, outs, count, scratch + g * packed_group + k * (packed_group / outs),
                       std::min(block_terms, outs - k), taps, sent, taps, k == 0);
      }
      for (std::size_t u = 0; u < count; ++u) {
        std::size_t const i = used[u] / w.out[2], j = used[u] % w.out[2];
        for (std::size_t channel = 0; channel < w.in_per_group(); ++channel) {
          float const* const tap = sent + u * taps + channel * f.area();
          index_t const* const slots = x.slot + (g * w.in_per_group() + channel) * plane;
          for (std::size_t p = 0; p < f.kernel_h; ++p) {
            std::size_t const at_row = i * f.stride_h + p * f.dilation_h;
            if (at_row < f.top || at_row - f.top >= w.in[1]) continue;
            for (std::size_t q = 0; q < f.kernel_w; ++q) {
              std::size_t const column = j * f.stride_w + q * f.dilation_w;
              if (column < f.left || column - f.left >= w.in[2]) continue;
              index_t const slot = slots[(at_row - f.top) * w.in[2] + column - f.left];
              if (slot != stage_state::dead) out[slot] += tap[p * f.kernel_w + q];
            }
          }
        }
      }
    }
  });
}

/// Order of summation (backend/roundings.hpp): a product over the output channels, then one addition for each position
/// that covers an element.
struct order final {
  [[nodiscard]] static constexpr std::size_t conv_roundings(extents out, window const& filter) {
    return product_roundings(out[0] / filter.groups);
  }
  [[nodiscard]] static constexpr std::size_t conv_additions(extents /*out*/, window const& filter) {
    return filter.overlap();
  }
};

}  // namespace hull::cpu
