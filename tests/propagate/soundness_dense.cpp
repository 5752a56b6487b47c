// SPDX-License-Identifier: Apache-2.0
// No input leaves the bounds: dense networks, deep ones, shared values, constants, smooth activations.
#include <doctest/doctest.h>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct deep final : decltype(Input<7> >> Linear<"a", 20> >> Relu >> Linear<"b", 20> >> Relu >> Linear<"c", 20> >>
                             Relu >> Linear<"d", 20> >> Relu >> Linear<"e", 3>) {};

// clang-format off
constexpr auto trunk = Input<6> >> Sub<"mean"> >> Div<"scale"> >> Linear<"a", 12> >> LeakyRelu<"slope">;
constexpr auto left = trunk >> Linear<"b", 12> >> Tanh;
constexpr auto right = trunk >> Sigmoid >> Mul<"gate"> >> Neg;
// clang-format on
constexpr auto twice = (left + right) + (left + right);
struct shared final
    : decltype(Concat<0>(twice - trunk, trunk >> Slice<0, 1, 11, 3>, left) >> Dropout >> Linear<"c", 5> >> Relu) {};

struct smooth final : decltype(Input<5> >> Linear<"a", 10> >> Tanh >> Add<"shift"> >> LeakyRelu<"l1"> >>
                               Linear<"b", 10> >> Sigmoid >> Neg >> Mul<"m"> >> Linear<"c", 4> >> Identity >> Sigmoid) {
};

}  // namespace

TEST_CASE("a deep perceptron") { check_random<deep>(1); }

TEST_CASE("a deep perceptron with weights and inputs of other magnitudes") {
  check_random<deep>(2, 2000, 30);
  check_random<deep>(3, 2000, 1e-4);
  check_random<deep>(4, 2000, 1, 1e9);
  check_random<deep>(5, 2000, 1, 1e-12);
  check_random<deep>(6, 2000, 1e-9, 1e-9);  // subnormal floats on the way
}

TEST_CASE("values with several consumers, x + x, constants at the input") { check_random<shared>(7); }

TEST_CASE("chains of smooth activations, a nonlinear output") {
  check_random<smooth>(8);
  check_random<smooth>(9, 2000, 20);
}

TEST_CASE("slopes of LeakyRelu: negative, zero, one, above one") {
  for (float const alpha : {-0.5f, 0.0f, 1.0f, 2.5f}) {
    auto p = random_parameters<smooth>(10);
    p.tensors["l1.alpha"] = {alpha};
    random_engine random(11);
    check_sound<smooth>(p, {random_box(random, 5, 0.5), random_box(random, 5, 0.05)}, 2000, 12);
  }
}
