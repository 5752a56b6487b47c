// SPDX-License-Identifier: Apache-2.0
// How the products of a convolution are laid out: which taps reach an element, how elements are cut into tiles, and
// what lies where in the scratch. Convolution and transposed convolution are one product: `targets` are computed,
// `sources` are read.
#pragma once

#include <algorithm>
#include <cstddef>

#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>
#include <hull/core/extents.hpp>
#include <hull/ops/window.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cuda {

[[nodiscard]] HULL_FN constexpr int padded(int count, int unit) { return (count + unit - 1) / unit * unit; }

/// Taps first + t * step, t < count, of a kernel; through tap t target u reads source u * pace + offset + t * shift.
struct conv_taps final {
  int first = 0, step = 1, count = 0;
  int offset = 0, shift = 0;
};

/// Elements or tiles first, ..., first + count - 1.
struct conv_span final {
  int first = 0, count = 0;
};

/// One axis. The targets of a transposed convolution fall into `stride` phases: the targets u * stride + phase read
/// through the same taps for all u, so that within a phase it is a convolution of stride 1.
struct conv_axis final {
  int kernel = 1, stride = 1, dilation = 1, before = 0;
  int source = 1, target = 1;  // lengths
  bool transposed = false;

  [[nodiscard]] HULL_FN constexpr int phases() const { return transposed ? stride : 1; }
  [[nodiscard]] HULL_FN constexpr int pace() const { return transposed ? 1 : stride; }  // in sources, from u to u + 1

  /// Targets of a phase; phase 0 has most.
  [[nodiscard]] HULL_FN constexpr int length(int phase) const { return (target - phase + phases() - 1) / phases(); }

  /// A tile has 2^edge_bits targets along this axis: 4, or what a small plane has.
  [[nodiscard]] HULL_FN constexpr int edge_bits() const { return length(0) > 2 ? 2 : length(0) > 1 ? 1 : 0; }
  [[nodiscard]] HULL_FN constexpr int edge() const { return 1 << edge_bits(); }
  [[nodiscard]] HULL_FN constexpr int tiles() const { return (length(0) + edge() - 1) / edge(); }

  /// From one tap to the next of the same phase.
  [[nodiscard]] HULL_FN constexpr int tap_step() const {
    int step = 1;
    if (transposed) {
      while (step * dilation % stride != 0) ++step;
    }
    return step;
  }
  /// No phase has more taps.
  [[nodiscard]] HULL_FN constexpr int most_taps() const { return (kernel + tap_step() - 1) / tap_step(); }

  [[nodiscard]] HULL_FN constexpr conv_taps taps(int phase) const {
    if (!transposed) return {0, 1, kernel, -before, dilation};
    int const step = tap_step();
    for (int p = 0; p < step && p < kernel; ++p) {
      int const distance = phase + before - p * dilation;  // to the source, in targets
      if (distance % stride != 0) continue;
      return {p, step, (kernel - 1 - p) / step + 1, distance / stride, -(step * dilation / stride)};
    }
    return {};  // the window steps over this phase
  }

  /// Tiles of a phase with targets that read any of the sources lowest, ..., highest.
  [[nodiscard]] HULL_FN constexpr conv_span touched(int phase, int lowest, int highest) const {
    conv_taps const t = taps(phase);
    if (t.count == 0) return {};
    int const last = t.offset + (t.count - 1) * t.shift;
    int const most = t.offset > last ? t.offset : last, least = t.offset > last ? last : t.offset;
    int const begin = lowest - most > 0 ? lowest - most : 0;
    int const end = highest - least + 1 < length(phase) ? highest - least + 1 : length(phase);
    if (begin >= end) return {};
    return {begin / edge(), (end - 1) / edge() - begin / edge() + 1};
  }
};

/// The whole product. Sources of some rows at a time are expanded into a dense buffer [row, source position, group,
/// channel of the group], channels rounded up to 4 for reads of 16 bytes; a term is a pair (tap, channel), channels
/// fastest. Weights are packed as [phase, group, term, target channel], with zeros in the gaps.
struct conv_plan final {
  static constexpr int depth = 16;                                  // terms loaded at a time
  static constexpr std::size_t chunk_words = std::size_t{8} << 20;  // 32 MiB: dense rows stay in the L2 cache
  static constexpr std::size_t most_rows = std::size_t{1} << 14;    // of a chunk; a grid has 65535 blocks along y
  static constexpr std::size_t box_words = 5;                       // of a row (conv_expand.cuh)

  conv_axis down{}, across{};
  int groups = 1;
  int source_channels = 1, target_channels = 1;  // of one group

  [[nodiscard]] HULL_FN constexpr bool transposed() const { return down.transposed; }
  [[nodiscard]] HULL_FN constexpr int phases() const { return down.phases() * across.phases(); }
  [[nodiscard]] HULL_FN constexpr int tiles() const { return down.tiles() * across.tiles(); }  // of phase 0, one row
  [[nodiscard]] HULL_FN constexpr int tile_bits() const { return down.edge_bits() + across.edge_bits(); }
  [[nodiscard]] HULL_FN constexpr int source_padded() const { return padded(source_channels, 4); }
  [[nodiscard]] HULL_FN constexpr int source_pitch() const { return groups * source_padded(); }
  [[nodiscard]] HULL_FN constexpr int source_positions() const { return down.source * across.source; }
  [[nodiscard]] HULL_FN constexpr int target_positions() const { return down.target * across.target; }
  [[nodiscard]] HULL_FN constexpr int terms() const {
    return padded(down.most_taps() * across.most_taps() * source_padded(), depth);
  }

  /// Target channels of a tile (conv_product.cuh).
  [[nodiscard]] HULL_FN constexpr int tile_channels() const {
    return target_channels <= 4 ? 4 : target_channels <= 16 ? 16 : target_channels <= 32 ? 32 : 64;
  }
  [[nodiscard]] HULL_FN constexpr int target_padded() const { return padded(target_channels, tile_channels()); }
  /// Whether there is a tile of pairs of halfs.
  [[nodiscard]] HULL_FN constexpr bool has_half_tile() const { return transposed() && tile_channels() >= 32; }

  // The scratch: packed weights, the dense buffer, counts of listed tiles [phase], boxes [row], lists [phase, ...].
  [[nodiscard]] constexpr std::size_t packed_floats() const {
    return std::size_t{1} * phases() * groups * terms() * target_padded();
  }
  [[nodiscard]] HULL_FN constexpr std::size_t row_floats() const {
    return std::size_t{1} * source_positions() * source_pitch();
  }
  [[nodiscard]] constexpr std::size_t count_words() const { return static_cast<std::size_t>(padded(phases(), 4)); }
  [[nodiscard]] constexpr std::size_t row_words() const {
    return row_floats() + (transposed() ? box_words + std::size_t{1} * phases() * tiles() : 0);
  }
  [[nodiscard]] constexpr std::size_t chunk_rows() const {
    return std::max<std::size_t>(1, std::min(most_rows, chunk_words / row_words()));
  }
  [[nodiscard]] constexpr std::size_t scratch_floats() const {
    return packed_floats() + count_words() + chunk_rows() * row_words();
  }
};

/// `transposed`: from coefficients of the outputs to those of the inputs; else from inputs to outputs.
[[nodiscard]] constexpr conv_plan make_conv_plan(extents in, extents out, window const& f, bool transposed) {
  auto const number = [](std::size_t value) { return static_cast<int>(value); };
  auto const axis = [&](std::size_t kernel, std::size_t stride, std::size_t dilation, std::size_t before,
                        std::size_t number_of_axis) {
    int const inside = number(in[number_of_axis]), outside = number(out[number_of_axis]);
    return conv_axis{number(kernel),
                     number(stride),
                     number(dilation),
                     number(before),
                     transposed ? outside : inside,
                     transposed ? inside : outside,
                     transposed};
  };
  int const ins = number(in[0] / f.groups), outs = number(out[0] / f.groups);
  return {axis(f.kernel_h, f.stride_h, f.dilation_h, f.top, 1), axis(f.kernel_w, f.stride_w, f.dilation_w, f.left, 2),
          number(f.groups), transposed ? outs : ins, transposed ? ins : outs};
}

/// The scratch, carved; rows are those of a chunk.
struct conv_work final {
  float* packed = nullptr;     // [phase, group, term, target channel]; halfs: four terms together
  unsigned* counts = nullptr;  // [phase] tiles listed
  float* dense = nullptr;      // [row, source position, group, source channel]
  unsigned* boxes = nullptr;   // [row, box_words] where the row is not 0 (conv_expand.cuh); directly behind `counts`
  unsigned* list = nullptr;    // [phase, capacity] row * plan.tiles() + tile
  std::size_t capacity = 0;
  unsigned rows = 0;
  float weight_scale = 0;  // of packed weights; for halfs alone
  bool cleared = false;    // targets are 0: a transposed product need not read them

  conv_work(conv_plan const& plan, float* scratch) {
    std::size_t const most = plan.chunk_rows();
    packed = scratch;
    dense = packed + plan.packed_floats();
    counts = reinterpret_cast<unsigned*>(dense + most * plan.row_floats());
    boxes = counts + plan.count_words();
    list = boxes + conv_plan::box_words * most;
    capacity = most * static_cast<std::size_t>(plan.tiles());
  }
};

/// Floats of scratch that conv_backward and conv_points need: about 32 MiB, or one row, and the packed weights.
[[nodiscard]] constexpr std::size_t conv_scratch_floats(extents in, extents out, window const& filter) {
  return std::max(make_conv_plan(in, out, filter, true).scratch_floats(),
                  make_conv_plan(in, out, filter, false).scratch_floats());
}

/// Roundings of one term before it is added to a coefficient of the operand, and additions to such a coefficient.
///
/// An element is old + ((chain + chain) + ...), chains of 32 terms in the order (tap, output channel). Terms that are
/// exactly 0 (taps that miss the output, channels in the gaps) round nothing. With K terms that can differ from 0, a
/// term meets min(K, 32) roundings in its chain of fused multiply-adds, one more if product and sum round apart, then
/// one for each chain after the first: the sum of chains starts at 0. Whatever was in the coefficient before meets a
/// single addition. Chains are counted with the gaps, because these move terms into other chains.
///
/// With halfs a chain errs as a whole (docs/soundness_tensor.md, section 10), and what is counted here for the chain
/// itself, conv_in_chain, falls away.
[[nodiscard]] constexpr std::size_t conv_taps_at_most(window const& filter) {
  auto const most_taps = [](std::size_t kernel, std::size_t stride, std::size_t dilation) {
    std::size_t step = 1;
    while (step * dilation % stride != 0) ++step;
    return (kernel + step - 1) / step;
  };
  return most_taps(filter.kernel_h, filter.stride_h, filter.dilation_h) *
         most_taps(filter.kernel_w, filter.stride_w, filter.dilation_w);
}
/// Terms of one element that can differ from 0.
[[nodiscard]] constexpr std::size_t conv_terms(extents out, window const& filter) {
  return conv_taps_at_most(filter) * (out[0] / filter.groups);
}
[[nodiscard]] constexpr std::size_t conv_in_chain(extents out, window const& filter) {
  return 1 + std::min(conv_terms(out, filter), chain_terms);
}
[[nodiscard]] constexpr std::size_t conv_roundings(extents out, window const& filter) {
  std::size_t const outs = (out[0] / filter.groups + 3) / 4 * 4;
  std::size_t const chains = (conv_taps_at_most(filter) * outs + chain_terms - 1) / chain_terms;
  return conv_in_chain(out, filter) + (chains - 1);
}
[[nodiscard]] constexpr std::size_t conv_additions(extents /*out*/, window const& /*filter*/) { return 1; }

}  // namespace hull::cuda
