// SPDX-License-Identifier: Apache-2.0
// What a stage's head reads and writes: states and coefficient buffers of its operands.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include <hull/core/config.hpp>
#include <hull/net/fuse.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// Lists the terms of element k of the head of stage S: f(operand, index, coefficient).
template <class S, class F>
HULL_FN void for_terms(std::size_t k, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    S::head::template terms<S::template operand<I>...>(k, static_cast<F&&>(f));
  }
  (std::make_index_sequence<S::input_count>{});
}

/// Most elements of the head of stage S (sparse or max) that read the same element of an operand.
template <class S>
[[nodiscard]] constexpr std::size_t uses_of() {
  return []<std::size_t... I>(std::index_sequence<I...>) { return S::head::template uses<S::template operand<I>...>; }
  (std::make_index_sequence<S::input_count>{});
}

/// States (or coefficient buffers) of the operands, by operand number.
template <class S, class T>
using operands = std::array<T, S::input_count>;

/// States of the operands of stage S.
template <class S, Network Net>
[[nodiscard]] operands<S, stage_state const*> sources(network_state<Net> const& state) {
  operands<S, stage_state const*> x{};
  S::for_each_operand([&]<std::size_t I> { x[I] = &state.stage[S::template input<I>]; });
  return x;
}

/// Their coefficient buffers.
template <class S>
[[nodiscard]] operands<S, float*> targets(coefficient_views<typename S::net> const& a) {
  operands<S, float*> out{};
  S::for_each_operand([&]<std::size_t I> { out[I] = a[S::template input<I>]; });
  return out;
}

/// Whether the coefficients of stage S's head are floats near the exact ones.
template <class S, class Weights>
[[nodiscard]] bool rounded_head(Weights const& weights) {
  if constexpr (HeadOf<typename S::head, linear_head> || HeadOf<typename S::head, conv_head>) {
    return weights.template rounded<S::info.head>();
  } else if constexpr (HeadOf<typename S::head, sparse_head>) {
    return !S::head::exact;
  } else {
    return false;
  }
}

}  // namespace hull
