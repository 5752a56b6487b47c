// SPDX-License-Identifier: Apache-2.0
// What the steps of a CPU machine take of the arena beside the rows themselves.
#pragma once

#include <cstddef>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/linear.hpp>
#include <hull/backend/cpu/product.hpp>
#include <hull/backend/interval_step.hpp>
#include <hull/net/fuse.hpp>

namespace hull::cpu {

/// Everything is constexpr; memory_of (propagate/memory.hpp) says what each is for.
template <class R>
struct step_memory {
  /// Whether the forward step of an affine head is a product in single precision.
  [[nodiscard]] static constexpr bool takes_product(std::size_t batch) {
    return !R::outward && batch >= least_product_batch;
  }

  /// Floats of scratch that the backward steps of stage S need.
  template <class S>
  [[nodiscard]] static constexpr std::size_t scratch_floats(std::size_t threads) {
    if constexpr (HeadOf<typename S::head, linear_head>) return block_floats;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      constexpr auto in = S::template operand<0>;
      return conv_packed_floats(in, S::shape, S::head::filter) +
             threads * conv_thread_floats(in, S::shape, S::head::filter);
    }
    return 0;
  }
  /// The same for points from the operands to the head.
  template <class S>
  [[nodiscard]] static constexpr std::size_t point_floats(std::size_t threads) {
    if constexpr (HeadOf<typename S::head, linear_head>) return block_floats;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      constexpr auto in = S::template operand<0>;
      return convolve_packed_floats(in, S::shape, S::head::filter) +
             threads * convolve_thread_floats(in, S::shape, S::head::filter);
    }
    return 0;
  }
  /// And for intervals.
  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch, std::size_t threads) {
    if constexpr (HeadOf<typename S::head, linear_head> || HeadOf<typename S::head, conv_head>) {
      if (takes_product(batch)) return 2 * batch * S::size + point_floats<S>(threads);
      return batch * S::size * sizeof(affine_sums) / sizeof(float);
    }
    return 0;
  }
};

}  // namespace hull::cpu
