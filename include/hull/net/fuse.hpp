// SPDX-License-Identifier: Apache-2.0
// Groups the nodes of a network into stages: a head (affine operator, sum, pool, ...) and the pointwise operators that
// follow it. A stage is what a backend runs as one kernel; only its output is ever stored.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include <hull/net/graph.hpp>

namespace hull {

/// Head of a stage that begins with a pointwise operator, because its operand has other consumers or is the input.
struct pass_t final {
  static constexpr std::string_view name = "Pass";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents In>
  static consteval extents output() {
    return In;
  }
  template <extents In>
  static constexpr std::size_t uses = 1;
  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    f(0, k, 1.0f);
  }
};

/// One stage as data; Nodes bounds the length of the lists.
template <std::size_t Nodes>
struct stage_info final {
  std::size_t head = 0;  // number of the head's node, or of the first pointwise node if `pass`
  bool pass = false;
  std::size_t input_count = 0;
  std::array<std::size_t, Nodes> inputs{};  // numbers of stages
  std::size_t tail_count = 0;
  std::array<std::size_t, Nodes> tail{};  // numbers of pointwise nodes, in order
  std::size_t size = 0;                   // elements
  std::size_t consumers = 0;              // how often other stages read the output
};

template <std::size_t Nodes>
struct stage_table final {
  std::size_t count = 0;
  std::array<stage_info<Nodes>, Nodes> stage{};
  std::array<std::size_t, Nodes> of_node{};  // the stage that a node belongs to
};

namespace detail {

template <Network Net>
consteval auto fuse() {
  using g = graph<Net>;
  constexpr std::size_t n = g::size;
  static_assert(names_are_unique<Net>(), "hull: two different layers have the same name (docs/errors.md#names)");
  static_assert(HeadOf<typename g::template op<0>, input_head>,
                "hull: a network begins with Input (docs/errors.md#input)");

  std::array<std::size_t, n> root{}, uses{};
  g::for_each([&]<std::size_t I> {
    root[I] = I;
    if constexpr (Head<typename g::template op<I>>) {
      if constexpr (HeadOf<typename g::template op<I>, view_head>) root[I] = root[g::template inputs<I>[0]];
      static_assert(I == 0 || !HeadOf<typename g::template op<I>, input_head>,
                    "hull: a network has one Input (docs/errors.md#input)");
    }
  });
  g::for_each([&]<std::size_t I> {
    if (root[I] != I) return;
    for (std::size_t i = 0; i < g::template input_count<I>; ++i) ++uses[root[g::template inputs<I>[i]]];
  });
  ++uses[root[n - 1]];  // the output is read from outside

  stage_table<n> table;
  auto const open_stage = [&](std::size_t head, bool pass, std::size_t size) -> stage_info<n>& {
    auto& stage = table.stage[table.count];
    stage.head = head;
    stage.pass = pass;
    stage.size = size;
    table.of_node[head] = table.count++;
    return stage;
  };
  auto const connect = [&](stage_info<n>& stage, std::size_t producer) {
    std::size_t const from = table.of_node[root[producer]];
    stage.inputs[stage.input_count++] = from;
    ++table.stage[from].consumers;
  };
  g::for_each([&]<std::size_t I> {
    using op = typename g::template op<I>;
    if constexpr (Pointwise<op>) {
      std::size_t const producer = root[g::template inputs<I>[0]];
      std::size_t const home = table.of_node[producer];
      if (uses[producer] > 1 || home == 0) connect(open_stage(I, true, g::template shape<I>.size()), producer);
      table.of_node[I] = table.of_node[I] != 0 ? table.of_node[I] : home;
      auto& stage = table.stage[table.of_node[I]];
      stage.tail[stage.tail_count++] = I;
    } else if constexpr (HeadOf<op, view_head>) {
      table.of_node[I] = table.of_node[root[I]];
    } else {
      auto& stage = open_stage(I, false, g::template shape<I>.size());
      for (std::size_t i = 0; i < g::template input_count<I>; ++i) connect(stage, g::template inputs<I>[i]);
    }
  });
  return table;
}

}  // namespace detail

template <Network Net>
inline constexpr auto stage_table_of = detail::fuse<Net>();

/// Stage K of a network: its head, its tail, its neighbours. Stage 0 is the input, the last stage the output.
template <Network Net, std::size_t K>
struct stage final {
  static constexpr auto const& info = stage_table_of<Net>.stage[K];
  static constexpr std::size_t number = K;
  static constexpr std::size_t size = info.size;
  static constexpr std::size_t input_count = info.input_count;
  using net = Net;
  using head = typename std::conditional_t<info.pass, std::type_identity<pass_t>,
                                           std::type_identity<typename graph<Net>::template op<info.head>>>::type;
  using kind = typename head::kind;

  /// Number of the i-th stage that the head reads.
  template <std::size_t I>
  static constexpr std::size_t input = info.inputs[I];

  /// Shape of the head's i-th operand.
  template <std::size_t I>
  static constexpr extents operand = graph<Net>::template shape<graph<Net>::template inputs<info.head>[I]>;

  static constexpr extents shape = graph<Net>::template shape<info.head>;

  /// Calls f.template operator()<I>() for every operand number of the head.
  template <class F>
  static constexpr void for_each_operand(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<I>(), ...); }
    (std::make_index_sequence<input_count>{});
  }

  /// Calls f.template operator()<I>() for the node numbers of the tail, in order.
  template <class F>
  static constexpr void for_each_tail(F&& f) {
    [&]<std::size_t... T>(std::index_sequence<T...>) { (f.template operator()<info.tail[T]>(), ...); }
    (std::make_index_sequence<info.tail_count>{});
  }
};

template <Network Net>
inline constexpr std::size_t stage_count = stage_table_of<Net>.count;

/// Calls f.template operator()<K>() for K = First .. Last - 1.
template <std::size_t First, std::size_t Last, class F>
constexpr void for_each_stage(F&& f) {
  if constexpr (First < Last) {
    [&]<std::size_t... K>(std::index_sequence<K...>) { (f.template operator()<First + K>(), ...); }
    (std::make_index_sequence<Last - First>{});
  }
}

/// Calls f.template operator()<K>() for K = First, First - 1, .. 1.
template <std::size_t First, class F>
constexpr void for_each_stage_backward(F&& f) {
  [&]<std::size_t... K>(std::index_sequence<K...>) { (f.template operator()<First - K>(), ...); }
  (std::make_index_sequence<First>{});
}

}  // namespace hull
