// SPDX-License-Identifier: Apache-2.0
// What the steps of a CUDA machine take of the arena beside the rows themselves: constants of the network and of the
// precision of its products.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <hull/backend/cuda/conv_plan.cuh>
#include <hull/backend/cuda/patch_climb.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/precision.cuh>
#include <hull/net/fuse.hpp>

namespace hull::cuda {

/// Everything is constexpr; memory_of (propagate/memory.hpp) says what each is for.
template <Network Net, class P>
struct step_memory {
  // Dense stages up to this size are relaxed and multiplied in one kernel. The choice must not depend on the number of
  // rows: sums of constants would.
  static constexpr std::size_t most_fused = 512;

  /// Whether products of stage S run on tensor cores, some of them at least. The choice must not depend on the number
  /// of rows either.
  template <class S>
  [[nodiscard]] static constexpr bool runs_on_tensor_cores() {
    if constexpr (HeadOf<typename S::head, linear_head>) return P::tensor && S::size > most_fused;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      if (P::convolutions != conv_numbers::halfs) return false;
      return make_conv_plan(S::template operand<0>, S::shape, S::head::filter, true).has_half_tile() ||
             ends_patches<S>();
    }
    return false;
  }
  template <class S>
  static constexpr bool on_tensor_cores = runs_on_tensor_cores<S>();
  template <class S>
  using precision_of = std::conditional_t<on_tensor_cores<S>, P, Fp32>;
  template <class S>
  static constexpr conv_numbers numbers_of = precision_of<S>::convolutions;

  /// Floats of scratch that the backward steps of stage S need.
  template <class S>
  [[nodiscard]] static constexpr std::size_t scratch_floats(std::size_t /*threads*/) {
    if constexpr (HeadOf<typename S::head, conv_head>) {
      return conv_scratch_floats(S::template operand<0>, S::shape, S::head::filter);
    }
    if constexpr (HeadOf<typename S::head, linear_head>) {
      return precision_of<S>::scratch_floats(S::size, S::template operand<0>.size());
    }
    return 0;
  }
  /// What rows get here beside what they get anywhere: the scratch of products on tensor cores, and room for larger
  /// chunks, because each ends with a few rows that do not fill a GPU (10 % of CROWN's time on a convolutional
  /// network).
  [[nodiscard]] static constexpr std::size_t row_bytes_beside() {
    constexpr std::size_t larger_chunks = std::size_t{64} << 20;
    std::size_t most = 0;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      if constexpr (HeadOf<typename S::head, linear_head> && on_tensor_cores<S>) {
        most = std::max(most, P::scratch_floats(S::size, S::template operand<0>.size()));
      }
    });
    return most * sizeof(float) + larger_chunks;
  }
  /// Those of rows that start at the head of stage S, and floats that such a row takes for stage k: rows of a Conv head
  /// are patches as far as they stay small (patch_plan.cuh).
  template <class S>
  [[nodiscard]] static constexpr std::size_t start_floats(std::size_t boxes) {
    return patch_scratch_floats<S>(boxes);
  }
  [[nodiscard]] static constexpr std::size_t coefficient_floats(std::size_t start, std::size_t k) {
    return patches<Net>[start][k].kept ? patches<Net>[start][k].floats() : stage_table_of<Net>.stage[k].size;
  }
  /// The same for optimised rows; 0: a number for each live column.
  [[nodiscard]] static constexpr std::size_t climbing_floats(std::size_t start, std::size_t k) {
    return climbs_as_patches<Net>(start) ? patches<Net>[start][k].floats() : 0;
  }
  /// What they need beside scratch.
  [[nodiscard]] static constexpr std::size_t climbing_tables(std::size_t start) {
    return climbs_as_patches<Net>(start) ? climb_table_offset<Net>(start, start) : 0;
  }
  template <class S>
  [[nodiscard]] static constexpr std::size_t point_floats(std::size_t threads) {
    if constexpr (HeadOf<typename S::head, linear_head>) {
      return precision_of<S>::scratch_floats(S::template operand<0>.size(), S::size);
    }
    return scratch_floats<S>(threads);
  }
  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t /*batch*/, std::size_t /*threads*/) {
    return 0;
  }
};

}  // namespace hull::cuda
