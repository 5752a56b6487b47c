// SPDX-License-Identifier: Apache-2.0
// No input leaves the bounds: convolutions with every option, residual connections, joins and transposes of images.
#include <doctest/doctest.h>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct plain final
    : decltype(Input<2, 7, 6> >> Conv<"a", 4, kernel<3, 2>, stride<2, 1>, pad<1, 0, 2, 1>> >> BatchNormalization<"n"> >>
               Relu >> Conv<"b", 6, kernel<2, 2>, dilation<2, 3>, groups<2>, pad<0, 1, 1, 0>> >> Flatten >> Relu >>
               Linear<"c", 4>) {};

// clang-format off
constexpr auto stem = Input<5, 5, 2> >> Transpose<2, 0, 1> >> Conv<"a", 3, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
constexpr auto block = stem >> Conv<"b", 3, kernel<3, 3>, pad<1, 1, 1, 1>> >> BatchNormalization<"n"> >> Relu >>
                       Conv<"c", 3, kernel<1, 3>, groups<3>, pad<0, 1, 0, 1>>;
// clang-format on
struct residual final : decltype((stem + block) >> Relu >> GlobalAveragePool >> Squeeze<1, 2> >> Linear<"d", 3>) {};

// clang-format off
constexpr auto image = Input<2, 4, 4> >> Relu;
constexpr auto one = image >> Conv<"a", 2, kernel<2, 2>, stride<2, 2>> >> Tanh;
constexpr auto two = image >> Slice<1, 0, 4, 2> >> Slice<2, 1, 4, 2>;
// clang-format on
struct joined final : decltype(Concat<0>(one, two, one - two) >> Transpose<1, 2, 0> >> Reshape<4, 6> >> Unsqueeze<0> >>
                               BatchNormalization<"n"> >> Squeeze<0> >> Flatten >> Linear<"b", 3>) {};

struct enlarged final : decltype(Input<2, 3, 2> >> Conv<"a", 4, kernel<2, 2>, pad<1, 0, 0, 1>> >> Relu >>
                                 Upsample<2, 3> >> LeakyRelu<"l"> >> Conv<"b", 3, kernel<3, 3>, stride<2, 2>> >> Relu >>
                                 Spread<3, 2> >> Conv<"c", 2, kernel<2, 3>, pad<1, 1, 2, 1>> >> Tanh >> Spread<1, 2> >>
                                 Upsample<2, 1> >> Flatten >> Linear<"d", 3>) {};

}  // namespace

TEST_CASE("stride, padding, dilation, groups") { check_random<plain>(1); }
TEST_CASE("a residual network on an image with channels last") { check_random<residual>(2); }
TEST_CASE("joins, slices and views of images") { check_random<joined>(3); }
TEST_CASE("images that become larger") { check_random<enlarged>(4); }
