// SPDX-License-Identifier: Apache-2.0
// How many roundings a coefficient meets in the backward steps of the CPU: constants of each stage.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/linear.hpp>
#include <hull/net/divide.hpp>
#include <hull/net/fuse.hpp>

namespace hull::cpu {

/// Additions over ranks that follow the backward step of stage S: where its neurons are divided, each has a part.
template <class S>
[[nodiscard]] constexpr std::size_t rank_additions() {
  using net = typename S::net;
  if constexpr (ranks_of < net >> 1 && !S::info.pass)
    return role_of<net, S::info.head> == role::first ? ranks_of<net> : 0;
  return 0;
}

/// Most additions that the backward step of stage S makes to one coefficient of an operand.
template <class S>
[[nodiscard]] constexpr std::size_t additions() {
  if constexpr (HeadOf<typename S::head, linear_head>) return linear_additions(S::size) + rank_additions<S>();
  if constexpr (HeadOf<typename S::head, conv_head>) return conv_additions(S::head::filter) + rank_additions<S>();
  if constexpr (HeadOf<typename S::head, sparse_head>) {
    return []<std::size_t... I>(std::index_sequence<I...>) { return S::head::template uses<S::template operand<I>...>; }
    (std::make_index_sequence<S::input_count>{});
  }
  if constexpr (HeadOf<typename S::head, max_head>) return S::head::template uses<S::template operand<0>>;
  return 0;
}

/// The same for all stages that read stage X together. Each addition rounds what is there already, so a coefficient
/// meets the additions of every consumer, whoever brought it.
template <Network Net, std::size_t X>
[[nodiscard]] constexpr std::size_t all_additions() {
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
[[nodiscard]] constexpr std::size_t operand_additions() {
  std::size_t most = 0;
  S::for_each_operand(
      [&]<std::size_t I> { most = std::max(most, all_additions<typename S::net, S::template input<I>>()); });
  return most;
}

/// Roundings that a coefficient can meet in the backward step of stage S, sums with other consumers included.
template <class S>
[[nodiscard]] constexpr std::size_t roundings() {
  std::size_t const sums = operand_additions<S>();
  if constexpr (HeadOf<typename S::head, linear_head>) return linear_roundings(S::size) + sums;
  if constexpr (HeadOf<typename S::head, conv_head>) return conv_roundings(S::shape, S::head::filter) + sums;
  return 2 + sums;  // at most one product, and a spare one
}

}  // namespace hull::cpu
