// SPDX-License-Identifier: Apache-2.0
// Conv on the CPU. Backward, row by row: the positions where a row has coefficients form a small matrix
// [positions, out channels]; its product with the filters gives what each position sends to its window.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/interval_step.hpp>
#include <hull/ops/window.hpp>
#include <hull/propagate/share.hpp>

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

/// Outputs of a line, [first, last), whose window has its column q inside the input.
[[nodiscard]] inline row_range covered_columns(conv_weights const& w, std::size_t q) {
  window const& f = w.filter;
  std::size_t const shift = q * f.dilation_w;  // column j * stride + shift - left
  std::size_t const first = shift >= f.left ? 0 : (f.left - shift + f.stride_w - 1) / f.stride_w;
  std::size_t const end = w.in[2] + f.left;
  std::size_t const last = end > shift ? std::min(w.out[2], (end - shift - 1) / f.stride_w + 1) : 0;
  return {std::min(first, last), last};
}

/// Sums of the head for every box, without the bias: `sums` [batch, size]. The terms of an output are added channel by
/// channel, each window line by line; outputs of a line stand side by side.
inline void conv_sums(conv_weights const& w, stage_state const& x, std::size_t batch, affine_sums* sums) {
  constexpr std::size_t side_by_side = 32;
  std::size_t const plane = w.in[1] * w.in[2], width = w.out[2];
  window const& f = w.filter;
  std::vector<row_range> covered(f.kernel_w);  // one for each column of the kernel
  for (std::size_t q = 0; q < f.kernel_w; ++q) covered[q] = covered_columns(w, q);
  parallel_for(w.out[0] * batch, w.taps() * w.positions(), [&](std::size_t task) {
    std::size_t const o = task % w.out[0], b = task / w.out[0];
    std::size_t const first_channel = o / w.out_per_group() * w.in_per_group();
    for (std::size_t i = 0; i < w.out[1]; ++i) {
      for (std::size_t first = 0; first < width; first += side_by_side) {
        std::size_t const last = std::min(width, first + side_by_side);
        double centre[side_by_side] = {}, magnitude[side_by_side] = {}, radius[side_by_side] = {};
        float const* weight = w.weight + o * w.taps();
        for (std::size_t channel = first_channel; channel < first_channel + w.in_per_group(); ++channel) {
          for (std::size_t p = 0; p < f.kernel_h; ++p) {
            std::size_t const row = i * f.stride_h + p * f.dilation_h;
            bool const inside = row >= f.top && row - f.top < w.in[1];
            for (std::size_t q = 0; q < f.kernel_w; ++q, ++weight) {
              if (!inside) continue;
              std::size_t const from = std::max(first, covered[q].first), to = std::min(last, covered[q].last);
              if (from >= to) continue;
              std::size_t const at = b * x.size + channel * plane + (row - f.top) * w.in[2] + from * f.stride_w +
                                     q * f.dilation_w - f.left;
              float const *const x_centre = x.centre + at, *const x_spread = x.spread + at;
              double const value = *weight, size = std::fabs(value);
              for (std::size_t j = 0; j < to - from; ++j) {
                double const product = value * static_cast<double>(x_centre[j * f.stride_w]);  // exact: 48 bits
                centre[from - first + j] += product;
                magnitude[from - first + j] += std::fabs(product);
                radius[from - first + j] += size * static_cast<double>(x_spread[j * f.stride_w]);
              }
            }
          }
        }
        affine_sums* const line = sums + (b * w.out[0] + o) * w.positions() + i * width;
        for (std::size_t j = first; j < last; ++j) {
          line[j] = {centre[j - first], magnitude[j - first], radius[j - first]};
        }
      }
    }
  });
}

/// Floats of scratch that convolve needs for each thread, and once for the packed filters.
[[nodiscard]] constexpr std::size_t convolve_thread_floats(extents in, extents out, window const& filter) {
  std::size_t const taps = in[0] / filter.groups * filter.area();
  return in.size() + out[1] * out[2] * (out[0] / filter.groups + taps + 1);
}
[[nodiscard]] constexpr std::size_t convolve_packed_floats(extents in, extents out, window const& filter) {
  return filter.groups * packed_floats(in[0] / filter.groups * filter.area(), out[0] / filter.groups);
}

/// One convolution for each row in single precision, without the bias: the windows of the positions that are wanted
/// form a matrix [positions, taps], whose product with the filters is the result. weight(i): number i of the filters;
/// row(r, place): the elements of row r, at `place` or elsewhere; wanted(element): whether anybody reads this output;
/// store(r, element, value) may be called for others, too. `scratch`: convolve_packed_floats, then
/// convolve_thread_floats for each thread.
template <class Weight, class Row, class Wanted, class Store>
void convolve(conv_weights const& w, std::size_t rows, Weight&& weight, Row&& row, Wanted&& wanted, Store&& store,
              float* scratch) {
  std::size_t const outs = w.out_per_group(), taps = w.taps(), positions = w.positions();
  std::size_t const packed_group = packed_floats(taps, outs), plane = w.in[1] * w.in[2];
  window const& f = w.filter;
  for (std::size_t g = 0; g < f.groups; ++g) {
    for (std::size_t k = 0; k < taps; k += block_terms) {
      std::size_t const depth = std::min(block_terms, taps - k);
      float* const packed = scratch + g * packed_group + k * (packed_group / taps);
      for (std::size_t j = 0; j < outs; j += panel) {
        pack_panel(packed + j * depth, depth, j, outs,
                   [&](std::size_t term, std::size_t column) { return weight((g * outs + column) * taps + k + term); });
      }
    }
  }
  float* const threads = scratch + f.groups * packed_group;
  std::size_t const thread_floats = convolve_thread_floats(w.in, w.out, f);

  parallel_for(rows, positions * outs * taps, [&](std::size_t r) {
    float* const place = threads + thread_number() * thread_floats;
    float* const windows = place + w.in.size();        // [wanted positions, taps]
    float* const result = windows + positions * taps;  // [wanted positions, out channels of a group]
    index_t* const chosen = reinterpret_cast<index_t*>(result + positions * outs);
    float const* const elements = row(r, place);  // [in channels, plane]

    for (std::size_t g = 0; g < f.groups; ++g) {
      std::size_t const first_element = g * outs * positions;
      std::size_t count = 0;
      for (std::size_t at = 0; at < positions; ++at) {
        bool any = false;
        for (std::size_t o = 0; o < outs && !any; ++o) any = wanted(first_element + o * positions + at);
        if (!any) continue;
        float* tap = windows + count * taps;
        std::size_t const i = at / w.out[2] * f.stride_h, j = at % w.out[2] * f.stride_w;
        for (std::size_t channel = 0; channel < w.in_per_group(); ++channel) {
          float const* const from = elements + (g * w.in_per_group() + channel) * plane;
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
        chosen[count++] = static_cast<index_t>(at);
      }
      for (std::size_t k = 0; k < taps; k += block_terms) {
        packed_product(windows + k, taps, count, scratch + g * packed_group + k * (packed_group / taps),
                       std::min(block_terms, taps - k), outs, result, outs, k == 0);
      }
      for (std::size_t u = 0; u < count; ++u) {
        for (std::size_t o = 0; o < outs; ++o) {
          store(r, first_element + o * positions + chosen[u], result[u * outs + o]);
        }
      }
    }
  });
}

/// Interval of the head for many boxes under `Nearest`, in single precision: the attack lives on it. `scratch`: 2
/// [batch, size] floats, then as for convolve.
inline void conv_forward_batch(conv_weights const& w, stage_state const& x, stage_state const& y, std::size_t batch,
                               float* scratch) {
  std::size_t const size = w.out.size();
  float *const centre = scratch, *const radius = centre + batch * size, *const rest = radius + batch * size;
  auto const all = [](std::size_t) { return true; };
  auto const rows_of = [&](float const* numbers) {
    return [numbers, &x](std::size_t b, float*) { return numbers + b * x.size; };
  };
  auto const to = [size](float* numbers) {
    return [numbers, size](std::size_t b, std::size_t element, float value) { numbers[b * size + element] = value; };
  };
  convolve(
      w, batch, [&](std::size_t i) { return w.weight[i]; }, rows_of(x.centre), all, to(centre), rest);
  bool const points = std::all_of(x.spread, x.spread + batch * x.size, [](float r) { return r == 0; });
  if (!points) {
    convolve(
        w, batch, [&](std::size_t i) { return std::fabs(w.weight[i]); }, rows_of(x.spread), all, to(radius), rest);
  }
  std::size_t const positions = w.positions();
  store_intervals(y, batch, centre, points ? nullptr : radius, [&](std::size_t i) { return w.bias[i / positions]; });
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
