// SPDX-License-Identifier: Apache-2.0
// Which part of a stage rows can reach that start at the neurons of a Conv head: through a chain of Conv heads it is a
// window (a patch), the same for all neurons but for its place. All extents are constants of the two stages.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <hull/backend/cuda/conv_plan.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/core/config.hpp>
#include <hull/net/divide.hpp>
#include <hull/net/fuse.hpp>

namespace hull::cuda {

/// n / by for n * by < 2^32, as one multiplication: magic = (2^32 + e) / by with e <= by.
struct divisor final {
  unsigned by = 1, magic = 0;

  constexpr divisor() = default;
  constexpr explicit divisor(int number)
      : by(static_cast<unsigned>(number)),
        magic(static_cast<unsigned>(((std::size_t{1} << 32) / static_cast<std::size_t>(number) + 1) & 0xffffffffU)) {}

  [[nodiscard]] __device__ unsigned quotient(unsigned n) const { return by == 1 ? n : __umulhi(n, magic); }
};

/// One axis of a patch: for neuron i of the start stage it is the positions i * pace - before, ..., `extent` of them,
/// of a layer with `length`. Those outside of the layer hold 0.
struct patch_axis final {
  int extent = 1, pace = 1, before = 0, length = 1;

  /// The operand's patch of a Conv head whose patch this is.
  [[nodiscard]] constexpr patch_axis through(std::size_t kernel, std::size_t stride, std::size_t dilation,
                                             std::size_t pad, std::size_t operand) const {
    int const k = static_cast<int>(kernel), s = static_cast<int>(stride), d = static_cast<int>(dilation);
    return {(extent - 1) * s + (k - 1) * d + 1, pace * s, before * s + static_cast<int>(pad),
            static_cast<int>(operand)};
  }
  [[nodiscard]] HULL_FN constexpr int origin(int i) const { return i * pace - before; }
  [[nodiscard]] HULL_FN constexpr bool inside(int at) const { return at >= 0 && at < length; }
};

/// The patch of one stage: [row, position of the window, channel], channels in the groups of the stage's own head, each
/// rounded up to 4 for reads of 16 bytes. Relaxing rows (conv_patch.cuh) sets what is dead, outside or a gap to 0.
struct patch final {
  patch_axis down{}, across{};
  int channels = 1, each = 1;  // of the layer; of a group
  int start_width = 1, start_positions = 1;
  bool kept = false;    // rows have this form here; else they are dense, and the rest says where they can be not 0
  bool summed = false;  // rows end here without a buffer (patch_input.cuh); only at the input
  divisor by_pitch{}, by_width{};

  [[nodiscard]] HULL_FN constexpr int each_padded() const { return padded(each, 4); }
  [[nodiscard]] HULL_FN constexpr int pitch() const { return channels / each * each_padded(); }
  [[nodiscard]] HULL_FN constexpr int positions() const { return down.extent * across.extent; }
  [[nodiscard]] HULL_FN constexpr int plane() const { return down.length * across.length; }
  [[nodiscard]] HULL_FN constexpr std::size_t floats() const {
    return static_cast<std::size_t>(positions()) * static_cast<std::size_t>(pitch());
  }
  /// The channel at place `at` of the pitch, or -1 in a gap.
  [[nodiscard]] HULL_FN constexpr int channel(int at) const {
    if (each == each_padded()) return at;
    int const in_group = at % each_padded();
    return in_group < each ? at / each_padded() * each + in_group : -1;
  }
  [[nodiscard]] HULL_FN constexpr int place(int channel) const {
    return each == each_padded() ? channel : channel / each * each_padded() + channel % each;
  }

  /// Lines of the whole layer in the order of patches (conv_patch.cuh).
  [[nodiscard]] constexpr std::size_t line_floats(std::size_t boxes) const {
    return boxes * static_cast<std::size_t>(plane()) * static_cast<std::size_t>(pitch()) * 8;
  }
};

inline constexpr int most_patch_taps = 128;      // a block of the product lists them
inline constexpr int patch_sum_positions = 256;  // of a block of patch_input_kernel,
inline constexpr int patch_sum_columns = 28;     // which multiplies with so many pairs of input channel and tap

/// Packed weights of a step between patches: [group, tap, source channel, target channel].
[[nodiscard]] constexpr std::size_t patch_packed_floats(conv_plan const& plan) {
  return static_cast<std::size_t>(plan.groups) * static_cast<std::size_t>(plan.down.kernel * plan.across.kernel) *
         static_cast<std::size_t>(plan.source_padded()) * static_cast<std::size_t>(plan.target_padded());
}

namespace detail {

template <Network Net>
using patch_table = std::array<std::array<patch, stage_count<Net>>, stage_count<Net>>;

template <Network Net>
[[nodiscard]] constexpr patch_table<Net> make_patches() {
  patch_table<Net> table{};
  if constexpr (1 < ranks_of<Net>) return table;  // ranks add up rows of neurons that only one of them knows
  for_each_stage_backward<stage_count<Net> - 1>([&]<std::size_t K> {
    using S = stage<Net, K>;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      constexpr std::size_t J = S::template input<0>;
      constexpr extents in = S::template operand<0>;
      constexpr window f = S::head::filter;
      using to_type = stage<Net, J>;
      int each = 0;  // channels of a group on the way back from J; 0: rows cannot stay a patch there
      if constexpr (J == 0) each = static_cast<int>(in[0]);
      if constexpr (J != 0 && HeadOf<typename to_type::head, conv_head>) {
        if (to_type::shape == in && to_type::head::filter.area() <= std::size_t{most_patch_taps}) {
          each = static_cast<int>(in[0] / to_type::head::filter.groups);
        }
      }
      for (std::size_t start = K; start < stage_count<Net>; ++start) {
        patch from;  // rows at the head of K
        if (start == K) {
          from.start_width = static_cast<int>(S::shape[2]);
          from.start_positions = static_cast<int>(S::shape[1] * S::shape[2]);
        } else {
          if (!table[start][K].kept) continue;
          from = table[start][K];
        }
        patch& to = table[start][J];
        to.down = from.down.through(f.kernel_h, f.stride_h, f.dilation_h, f.top, in[1]);
        to.across = from.across.through(f.kernel_w, f.stride_w, f.dilation_w, f.left, in[2]);
        to.start_width = from.start_width, to.start_positions = from.start_positions;
        to.channels = static_cast<int>(in[0]);
        to.each = each == 0 ? to.channels : each;
        // at the input a patch always pays: what follows is one sum
        int const cover = to.positions() * (J == 0 ? 1 : 2);
        to.kept = each != 0 && cover <= to.plane() && to.pitch() <= 4096 && to.floats() < (std::size_t{1} << 19);
        to.summed = to.kept && J == 0 && start != K && f.groups == 1 && S::shape[0] % chain_terms == 0 &&
                    in[0] * f.area() <= std::size_t{patch_sum_columns} && from.positions() <= patch_sum_positions;
        to.by_pitch = divisor(to.pitch()), to.by_width = divisor(to.across.extent);
      }
    }
  });
  return table;
}

}  // namespace detail

/// [start][stage]: patches of rows that start at the head of `start`. Rows that do not start at a Conv head, and stages
/// that are not reached through Conv heads alone, have none. Heads on the way have one operand each, so nothing else
/// writes to a patch.
template <Network Net>
inline constexpr detail::patch_table<Net> patches = detail::make_patches<Net>();

/// Whether rows of any start end in one sum behind the head of stage S.
template <class S>
[[nodiscard]] constexpr bool ends_patches() {
  using net = typename S::net;
  bool any = false;
  for (std::size_t start = S::number + 1; start < stage_count<net>; ++start) {
    any = any || (S::template input<0> == 0 && patches<net>[start][S::number].kept && patches<net>[start][0].summed);
  }
  return any;
}

/// What the steps of rows that start at the head of stage S need beside the rows: packed weights and lines of one
/// stage.
template <class S>
[[nodiscard]] constexpr std::size_t patch_scratch_floats(std::size_t boxes) {
  using net = typename S::net;
  std::size_t most = 0;
  for_each_stage<1, S::number + 1>([&]<std::size_t J> {
    using T = stage<net, J>;
    if constexpr (HeadOf<typename T::head, conv_head>) {
      patch const& at = patches<net>[S::number][J];
      if (J != S::number && at.kept) {
        auto const packed = [](bool transposed) {
          return patch_packed_floats(make_conv_plan(T::template operand<0>, T::shape, T::head::filter, transposed));
        };
        most = std::max(most, std::max(packed(true), packed(false)) + at.line_floats(boxes));
      }
    }
  });
  return most;
}

}  // namespace hull::cuda
