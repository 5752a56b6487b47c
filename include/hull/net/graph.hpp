// SPDX-License-Identifier: Apache-2.0
// The nodes of a network with their shapes, as compile-time constants addressed by number.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include <hull/net/expression.hpp>

namespace hull {

namespace detail {

template <class... Nodes>
std::tuple<Nodes...> nodes_of(expression<Nodes...> const&);

template <class Node>
struct node_inputs;
template <class Op, std::size_t... In>
struct node_inputs<node<Op, In...>> {
  static constexpr std::size_t count = sizeof...(In);
  static constexpr std::array<std::size_t, count + 1> value{In..., 0};
};

template <class Net, std::size_t I>
struct shape_of;

template <class Net, class Node>
struct shape_after;
template <class Net, class Op, std::size_t... In>
struct shape_after<Net, node<Op, In...>> {
  static consteval extents compute() {
    if constexpr (sizeof...(In) == 0) {
      return Op::shape;
    } else if constexpr (Head<Op>) {
      return Op::template output<shape_of<Net, In>::value...>();
    } else {
      return (shape_of<Net, In>::value, ...);  // pointwise: one operand, same shape
    }
  }
};

template <class Net>
using node_list = decltype(nodes_of(std::declval<Net const&>()));

template <class Net, std::size_t I>
struct shape_of {
  using node_type = std::tuple_element_t<I, node_list<Net>>;
  static constexpr extents value = shape_after<Net, node_type>::compute();
};

}  // namespace detail

/// A named struct derived from an expression: struct mnist final : decltype(Input<784> >> ...) {};
template <class Net>
concept Network = requires {
  typename detail::node_list<Net>;
};

template <Network Net>
struct graph final {
  using nodes = detail::node_list<Net>;
  static constexpr std::size_t size = std::tuple_size_v<nodes>;

  template <std::size_t I>
  using op = typename std::tuple_element_t<I, nodes>::op;

  template <std::size_t I>
  static constexpr extents shape = detail::shape_of<Net, I>::value;

  template <std::size_t I>
  static constexpr std::size_t input_count = detail::node_inputs<std::tuple_element_t<I, nodes>>::count;

  /// Number of the i-th operand of node I.
  template <std::size_t I>
  static constexpr auto inputs = detail::node_inputs<std::tuple_element_t<I, nodes>>::value;

  static constexpr std::size_t input_size = shape<0>.size();
  static constexpr std::size_t output_size = shape<size - 1>.size();

  /// Calls f.operator()<I>() for every node in topological order.
  template <class F>
  static constexpr void for_each(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<I>(), ...); }
    (std::make_index_sequence<size>{});
  }
};

namespace detail {

/// The layer's name, empty for operators without parameters.
template <class Op>
consteval std::string_view layer_name() {
  if constexpr (requires { Op::layer.view(); }) {
    return Op::layer.view();
  } else if constexpr (requires { Op::layer; }) {
    return Op::layer;
  } else {
    return {};
  }
}

template <Network Net>
consteval bool names_are_unique() {
  std::array<std::string_view, graph<Net>::size> names{};
  std::size_t count = 0;
  graph<Net>::for_each([&]<std::size_t I> { names[count++] = layer_name<typename graph<Net>::template op<I>>(); });
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = a + 1; b < count; ++b) {
      if (!names[a].empty() && names[a] == names[b]) return false;
    }
  }
  return true;
}

}  // namespace detail

}  // namespace hull
