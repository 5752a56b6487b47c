// SPDX-License-Identifier: Apache-2.0
// What a stage's head reads and writes: states and coefficient buffers of its operands.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <hull/backend/cpu/sparse.hpp>
#include <hull/net/fuse.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cpu {

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

/// Zeroes the buffers to which this head contributes first.
template <std::size_t N>
void clear(std::size_t rows, std::array<stage_state const*, N> const& x, std::array<float*, N> const& out,
           std::array<bool, N> const& overwrite) {
  for (std::size_t i = 0; i < N; ++i) {
    if (overwrite[i]) std::fill_n(out[i], rows * x[i]->live_count, 0.0f);
  }
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

}  // namespace hull::cpu
