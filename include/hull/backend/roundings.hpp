// SPDX-License-Identifier: Apache-2.0
// How many roundings a coefficient meets in the backward steps: constants of each stage, given a backend's convolution.
#pragma once

#include <algorithm>
#include <cstddef>

#include <hull/backend/operands.hpp>
#include <hull/backend/summation.hpp>
#include <hull/net/divide.hpp>
#include <hull/net/fuse.hpp>

namespace hull {

/// `Order` says of a convolution with outputs `out`:
///   conv_roundings(out, filter)   roundings of one term before it is added to a coefficient of the operand
///   conv_additions(out, filter)   additions to such a coefficient
template <class Order>
struct rounding_counts final {
  /// Additions over ranks that follow the backward step of stage S: where its neurons are divided, each has a part.
  template <class S>
  [[nodiscard]] static constexpr std::size_t rank_additions() {
    return has_role<S>(role::first) ? ranks_of<typename S::net> : 0;
  }

  /// Most additions that the backward step of stage S makes to one coefficient of an operand.
  template <class S>
  [[nodiscard]] static constexpr std::size_t additions() {
    if constexpr (HeadOf<typename S::head, linear_head>) return product_additions(S::size) + rank_additions<S>();
    if constexpr (HeadOf<typename S::head, conv_head>) {
      return Order::conv_additions(S::shape, S::head::filter) + rank_additions<S>();
    }
    if constexpr (HeadOf<typename S::head, sparse_head> || HeadOf<typename S::head, max_head>) return uses_of<S>();
    return 0;
  }

  /// The same for all stages that read stage X together. Each addition rounds what is there already, so a coefficient
  /// meets the additions of every consumer, whoever brought it.
  template <Network Net, std::size_t X>
  [[nodiscard]] static constexpr std::size_t all_additions() {
    std::size_t sum = 0;
    for_each_stage<X + 1, stage_count<Net>>([&]<std::size_t K> {
      for (std::size_t i = 0; i < stage<Net, K>::input_count; ++i) {
        if (stage<Net, K>::info.inputs[i] == X) sum += additions<stage<Net, K>>();
      }
    });
    return sum;
  }

  /// The largest of them over the operands of stage S.
  template <class S>
  [[nodiscard]] static constexpr std::size_t operand_additions() {
    std::size_t most = 0;
    S::for_each_operand(
        [&]<std::size_t I> { most = std::max(most, all_additions<typename S::net, S::template input<I>>()); });
    return most;
  }

  /// Additions of other consumers to the operands of stage S, and two for rounded weights: what seeds meet.
  template <class S>
  [[nodiscard]] static constexpr std::size_t seed_roundings() {
    // seeds are the weights themselves (one rounding if those are rounded); additions by other consumers round them
    return operand_additions<S>() - (S::input_count == 1 ? additions<S>() : 0) + 2;
  }

  /// Roundings that a coefficient can meet in the backward step of stage S, sums with other consumers included.
  template <class S>
  [[nodiscard]] static constexpr std::size_t roundings() {
    std::size_t const sums = operand_additions<S>();
    if constexpr (HeadOf<typename S::head, linear_head>) return 1 + std::min(S::size, chain_terms) + sums;
    if constexpr (HeadOf<typename S::head, conv_head>) return Order::conv_roundings(S::shape, S::head::filter) + sums;
    return 2 + sums;  // at most one product, and a spare one
  }
};

/// Terms of one element of the affine head of stage S, bias included.
template <class S>
[[nodiscard]] constexpr std::size_t affine_terms() {
  if constexpr (HeadOf<typename S::head, conv_head>) {
    return S::template operand<0>[0] / S::head::filter.groups * S::head::filter.area() + 1;
  }
  return S::template operand<0>.size() + 1;
}

}  // namespace hull
