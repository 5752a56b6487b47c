// SPDX-License-Identifier: Apache-2.0
// The language of networks: which nodes an expression has, and which it shares.
#include <doctest/doctest.h>
#include <string>
#include <type_traits>

#include <hull/net/network.hpp>

using namespace hull;

namespace {

constexpr auto x = Input<4>;
constexpr auto a = x >> Linear<"a", 3>;

template <class A, class B>
constexpr bool same = std::is_same_v<std::remove_cvref_t<A>, std::remove_cvref_t<B>>;

template <class Net, class... Nodes>
constexpr bool has_nodes = same<Net, expression<Nodes...>>;

using in = node<input_t<4>>;
using linear_a = node<linear_t<"a", 3>, 0>;

}  // namespace

TEST_CASE("a chain") {
  constexpr auto chain = a >> Relu >> Linear<"b", 2>;
  static_assert(has_nodes<decltype(chain), in, linear_a, node<relu_t, 1>, node<linear_t<"b", 2>, 2>>);
  struct net final : decltype(chain) {};
  static_assert(Network<net> && graph<net>::size == 4);
  static_assert(graph<net>::input_size == 4 && graph<net>::output_size == 2);
  static_assert(graph<net>::input_count<0> == 0 && graph<net>::input_count<3> == 1 && graph<net>::inputs<3>[0] == 2);
  static_assert(same<decltype(net{} >> Relu), decltype(chain >> Relu)>);  // a named network is an expression too
}

TEST_CASE("two branches from one value") {
  constexpr auto sum = (a >> Relu) + (a >> Tanh);
  static_assert(has_nodes<decltype(sum), in, linear_a, node<relu_t, 1>, node<tanh_t, 1>, node<sum_t<1>, 2, 3>>);
  constexpr auto residual = a + (a >> Relu >> Linear<"b", 3>);
  static_assert(
      has_nodes<decltype(residual), in, linear_a, node<relu_t, 1>, node<linear_t<"b", 3>, 2>, node<sum_t<1>, 1, 3>>);
  constexpr auto reversed = (a >> Relu >> Linear<"b", 3>)-a;  // the longer operand first
  static_assert(
      has_nodes<decltype(reversed), in, linear_a, node<relu_t, 1>, node<linear_t<"b", 3>, 2>, node<sum_t<-1>, 3, 1>>);
}

TEST_CASE("equal sub-expressions are one node") {
  constexpr auto doubled = a + a;
  static_assert(has_nodes<decltype(doubled), in, linear_a, node<sum_t<1>, 1, 1>>);
  // the same operator without a name, applied twice to the same value
  // clang-format off
  constexpr auto relus = (a >> Relu) + (x >> Linear<"a", 3> >> Relu);
  // clang-format on
  static_assert(has_nodes<decltype(relus), in, linear_a, node<relu_t, 1>, node<sum_t<1>, 2, 2>>);
  // but not to different values
  constexpr auto chain = a >> Relu >> Relu;
  static_assert(has_nodes<decltype(chain), in, linear_a, node<relu_t, 1>, node<relu_t, 2>>);
  // layers with one name and one operand are one layer
  struct shared final : decltype(Concat<0>(a, a >> Relu, a >> Relu >> Neg)) {};
  static_assert(graph<shared>::size == 5 && detail::names_are_unique<shared>());
  struct twice final : decltype((a >> Linear<"b", 3>)+(a >> Relu >> Linear<"b", 3>)) {};
  static_assert(!detail::names_are_unique<twice>());
}

TEST_CASE("joins of several operands") {
  constexpr auto three = Concat<0>(a, a >> Relu, x >> Linear<"b", 2>);
  static_assert(
      has_nodes<decltype(three), in, linear_a, node<relu_t, 1>, node<linear_t<"b", 2>, 0>, node<concat_t<0>, 1, 2, 3>>);
  constexpr auto one = Concat<0>(a);
  static_assert(has_nodes<decltype(one), in, linear_a, node<concat_t<0>, 1>>);
  struct named final : decltype(a >> Relu) {};
  static_assert(same<decltype(Concat<0>(named{}, a)), decltype(Concat<0>(a >> Relu, a))>);
  constexpr auto merged = Concat<0>(a >> Relu, a) + Concat<0>(a, a >> Relu);
  static_assert(has_nodes<decltype(merged), in, linear_a, node<relu_t, 1>, node<concat_t<0>, 2, 1>,
                          node<concat_t<0>, 1, 2>, node<sum_t<1>, 3, 4>>);
}

TEST_CASE("an expression used in two larger ones keeps its numbers right") {
  constexpr auto left = a >> Relu >> Linear<"l", 3>;
  // clang-format off
  constexpr auto right = x >> Linear<"r", 3> >> Relu;
  // clang-format on
  constexpr auto both = left + right;
  struct net final : decltype((both >> Linear<"o", 3>)-(right + left)) {};
  static_assert(graph<net>::size == 10);  // x a relu l r relu + o + -
  static_assert(graph<net>::inputs<6>[0] == 3 && graph<net>::inputs<6>[1] == 5);
  static_assert(graph<net>::inputs<8>[0] == 5 && graph<net>::inputs<8>[1] == 3);
  static_assert(graph<net>::inputs<9>[0] == 7 && graph<net>::inputs<9>[1] == 8);
}
