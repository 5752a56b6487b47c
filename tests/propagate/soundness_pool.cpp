// SPDX-License-Identifier: Apache-2.0
// No input leaves the bounds: pools of means and of maxima, with overlap, padding and dilation.
#include <doctest/doctest.h>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct means final : decltype(Input<2, 6, 5> >> AveragePool<kernel<3, 3>, stride<2, 1>, pad<1, 1, 1, 1>> >>
                              Conv<"a", 3, kernel<2, 2>> >> Relu >>
                              AveragePool<kernel<2, 3>, pad<1, 1, 0, 1>, exclude_pad> >> Flatten >> Linear<"b", 3>) {};

struct maxima final
    : decltype(Input<1, 7, 7> >> Conv<"a", 3, kernel<3, 3>> >> MaxPool<kernel<3, 2>, stride<1, 2>, pad<1, 0, 1, 1>> >>
               Flatten >> Linear<"b", 8> >> Relu >> Linear<"c", 3>) {};

// clang-format off
constexpr auto before = Input<2, 5, 5> >> Conv<"a", 2, kernel<2, 2>> >> Relu;
// clang-format on
struct chained final : decltype((before >> MaxPool<kernel<2, 2>, dilation<2, 1>> >> LeakyRelu<"l"> >>
                                 MaxPool<kernel<2, 2>> >> Sigmoid >> Flatten >> Linear<"b", 4> >> Tanh)) {};
struct alone final : decltype(Input<1, 4, 4> >> MaxPool<kernel<2, 2>, pad<1, 1, 1, 1>>) {};

}  // namespace

TEST_CASE("means of windows, padding in and out of the count") { check_random<means>(1); }
TEST_CASE("maxima of overlapping windows without ReLU before") { check_random<maxima>(2); }
TEST_CASE("maxima of maxima, with a tail") { check_random<chained>(3); }
TEST_CASE("a pool alone") { check_random<alone>(4); }

TEST_CASE("maxima of ties") {  // equal inputs, and windows whose pick is certain by equality alone
  std::vector<box_type> boxes{box_type(16, {0.5, 0.5}), box_type(16, {-1, 1}), box_type(16, {0, 0})};
  boxes[0][5] = {0.5, 2};
  check_sound<alone>({}, boxes, 3000, 5);
}
