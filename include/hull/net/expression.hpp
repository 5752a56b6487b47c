// SPDX-License-Identifier: Apache-2.0
// The language that describes a network: Input<784> >> Linear<"fc1", 256> >> Relu, a + b, Concat<0>(a, b).
//
// An expression is a flat list of nodes in topological order; its value is the last node. Operands that are built from
// the same sub-expression share its nodes: merging two lists keeps one copy of every node.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <hull/core/extents.hpp>
#include <hull/ops/concat.hpp>
#include <hull/ops/head.hpp>
#include <hull/ops/input.hpp>
#include <hull/ops/op.hpp>
#include <hull/ops/sum.hpp>

namespace hull {

/// Operator `Op` applied to the values of the nodes with the numbers In.
template <class Op, std::size_t... In>
struct node final {
  using op = Op;
};

template <class... Nodes>
struct expression {};

/// What may stand to the right of >>.
template <class Op>
concept Operator = Pointwise<Op> || Head<Op>;

template <std::size_t... Dims>
inline constexpr expression<node<input_t<Dims...>>> Input{};

/// Appends an operator: its operand is the value of the expression.
template <class... Nodes, Operator Op>
[[nodiscard]] constexpr expression<Nodes..., node<Op, sizeof...(Nodes) - 1>> operator>>(expression<Nodes...>, Op) {
  return {};
}

/// Anything else right of >> is refused with a sentence.
template <class... Nodes, class Other>
constexpr auto operator>>(expression<Nodes...> left, Other)  // auto: the body is read even inside decltype
    requires(!Operator<Other>) {
  static_assert(Operator<Other>, "hull: only an operator may stand right of >> (docs/errors.md#operator)");
  return left;
}

namespace detail {

/// The expression itself, also of a named network that is derived from it.
template <class... Nodes>
expression<Nodes...> bare(expression<Nodes...> const&);

template <class T>
concept Expression = requires(T const& operand) {
  bare(operand);
};

template <std::size_t... At>
struct numbers {
  static constexpr std::size_t count = sizeof...(At);
  static constexpr std::size_t value[count + 1] = {At..., 0};
};

/// Number of `Node` in the list, or the length of the list if it is not there.
template <class Node, class... Nodes>
consteval std::size_t position() {
  std::size_t at = 0;
  (void)((std::is_same_v<Node, Nodes> || (++at, false)) || ...);
  return at;
}

template <class Node, class Map>
struct renumber;
template <class Op, std::size_t... In, class Map>
struct renumber<node<Op, In...>, Map> {
  using type = node<Op, Map::value[In]...>;
};

/// Takes the nodes of a second list one by one into `Merged`; Map holds the new number of each node taken so far.
template <class Merged, class Map, class... Rest>
struct merge_nodes {
  using list = Merged;
  using map = Map;
};
template <class... Nodes, std::size_t... At, class First, class... Rest>
struct merge_nodes<expression<Nodes...>, numbers<At...>, First, Rest...> {
  using moved = typename renumber<First, numbers<At...>>::type;
  static constexpr std::size_t at = position<moved, Nodes...>();
  using grown = std::conditional_t<(at < sizeof...(Nodes)), expression<Nodes...>, expression<Nodes..., moved>>;
  using next = merge_nodes<grown, numbers<At..., at>, Rest...>;
  using list = typename next::list;
  using map = typename next::map;
};

/// All operands in one list, and the number of each operand's value in it.
template <class List, class Values, class... Operands>
struct merge_operands {
  using list = List;
  using values = Values;
};
template <class List, std::size_t... Values, class... Nodes, class... Rest>
struct merge_operands<List, numbers<Values...>, expression<Nodes...>, Rest...> {
  using one = merge_nodes<List, numbers<>, Nodes...>;
  static constexpr std::size_t value = one::map::value[sizeof...(Nodes) - 1];
  using next = merge_operands<typename one::list, numbers<Values..., value>, Rest...>;
  using list = typename next::list;
  using values = typename next::values;
};

template <class Op, class List, class Values>
struct append;
template <class Op, class... Nodes, std::size_t... Values>
struct append<Op, expression<Nodes...>, numbers<Values...>> {
  using type = expression<Nodes..., node<Op, Values...>>;
};

template <class Op, class... Operands>
struct join {
  using merged = merge_operands<expression<>, numbers<>, Operands...>;
  using type = typename append<Op, typename merged::list, typename merged::values>::type;
};

}  // namespace detail

template <class... A, class... B>
[[nodiscard]] constexpr auto operator+(expression<A...>, expression<B...>) {
  return typename detail::join<sum_t<1>, expression<A...>, expression<B...>>::type{};
}

template <class... A, class... B>
[[nodiscard]] constexpr auto operator-(expression<A...>, expression<B...>) {
  return typename detail::join<sum_t<-1>, expression<A...>, expression<B...>>::type{};
}

/// Joins the values along `Axis`: Concat<0>(a, b, c).
template <std::size_t Axis>
struct concat_function final {
  template <class... Operands>
  [[nodiscard]] constexpr auto operator()(Operands...) const {
    constexpr bool expressions = (detail::Expression<Operands> && ...);
    static_assert(sizeof...(Operands) > 0, "hull: Concat needs at least one operand (docs/errors.md#concat)");
    static_assert(expressions,
                  "hull: the operands of Concat are expressions, each from Input on (docs/errors.md#concat)");
    if constexpr (expressions) {
      return typename detail::join<concat_t<Axis>, decltype(detail::bare(std::declval<Operands const&>()))...>::type{};
    }
  }
};
template <std::size_t Axis>
inline constexpr concat_function<Axis> Concat{};

}  // namespace hull
