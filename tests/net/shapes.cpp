// SPDX-License-Identifier: Apache-2.0
// The shape that each operator gives its value. The propagation tests compare shapes with a second implementation.
#include <doctest/doctest.h>

#include <hull/net/network.hpp>

using namespace hull;

namespace {

template <class Expression>
struct net final : Expression {};

template <std::size_t... Dims, class Expression>
constexpr bool gives(Expression) {
  using g = graph<net<Expression>>;
  return g::template shape<g::size - 1> == make_extents(Dims...);
}

constexpr auto image = Input<6, 9, 8>;
constexpr auto vector = Input<12>;

}  // namespace

TEST_CASE("pointwise operators keep the shape") {
  static_assert(gives<6, 9, 8>(image >> Relu >> LeakyRelu<"l"> >> Sigmoid >> Tanh >> Neg));
  static_assert(gives<6, 9, 8>(image >> Add<"a"> >> Sub<"s"> >> Mul<"m"> >> Div<"d"> >> BatchNormalization<"b">));
  static_assert(gives<6, 9, 8>(image >> Identity >> Dropout));
}

TEST_CASE("dense layers and convolutions") {
  static_assert(gives<5>(vector >> Linear<"a", 5>));
  static_assert(gives<4, 7, 6>(image >> Conv<"a", 4, kernel<3, 3>>));
  static_assert(gives<4, 5, 4>(image >> Conv<"a", 4, kernel<3, 3>, pad<1, 1, 1, 1>, stride<2, 2>>));
  static_assert(gives<6, 8, 6>(image >> Conv<"a", 6, groups<3>, kernel<2, 4>, dilation<3, 2>, pad<0, 1, 2, 3>>));
  static_assert(gives<1, 9, 8>(image >> Conv<"a", 1>));
  static_assert(gives<3, 1, 3>(Input<2, 1, 10> >> Conv<"a", 3, kernel<1, 4>, stride<1, 3>>));  // Conv1d
}

TEST_CASE("pools") {
  static_assert(gives<6, 4, 4>(image >> MaxPool<kernel<2, 2>, stride<2, 2>>));
  static_assert(gives<6, 5, 4>(image >> MaxPool<kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>>));
  static_assert(gives<6, 1, 1>(image >> AveragePool<kernel<9, 8>>));
  static_assert(gives<6, 1, 1>(image >> GlobalAveragePool));
  static_assert(gives<5, 1>(Input<5, 7> >> GlobalAveragePool));
}

TEST_CASE("views, slices, transposes, joins, sums") {
  static_assert(gives<432>(image >> Flatten));
  static_assert(gives<2, 27, 8>(image >> Reshape<2, 27, 8>));
  static_assert(gives<1, 12, 1>(vector >> Unsqueeze<0, 2>));
  static_assert(gives<1, 12>(vector >> Unsqueeze<0, 2> >> Squeeze<2>));
  static_assert(gives<3>(vector >> Slice<0, 2, 11, 3>));
  static_assert(gives<6, 9, 1>(image >> Slice<2, 7, 8>));
  static_assert(gives<6, 18, 24>(image >> Upsample<2, 3>));
  static_assert(gives<6, 17, 22>(image >> Spread<2, 3>));
  static_assert(gives<8, 6, 9>(image >> Transpose<2, 0, 1>));
  static_assert(gives<6, 20, 8>(Concat<1>(image, image >> Relu, image >> Slice<1, 0, 2>)));
  static_assert(gives<6, 9, 8>(image + (image >> Relu)));
}

TEST_CASE("extents") {
  constexpr extents e = make_extents(2, 3, 4);
  static_assert(e.rank == 3 && e.size() == 24 && e[1] == 3);
  static_assert(e.stride(0) == 12 && e.stride(1) == 4 && e.stride(2) == 1);
  static_assert(make_extents().size() == 1 && make_extents(2, 3) != make_extents(3, 2));
  static_assert(!make_window<kernel<2, 2>, dilation<2, 2>, pad<1, 1, 1, 1>>().touches(make_extents(1, 1, 1)));
  static_assert(make_window<kernel<3, 3>, dilation<2, 2>, pad<2, 2, 2, 2>>().touches(make_extents(1, 1, 1)));
}
