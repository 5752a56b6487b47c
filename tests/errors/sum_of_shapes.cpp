// expect: hull: the two operands of + or - have different shapes
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

// clang-format off
constexpr auto x = Input<8> >> Linear<"a", 6>;
// clang-format on
struct bad final : decltype(x + (x >> Relu >> Linear<"b", 5>)) {};

static_assert(graph<bad>::output_size > 0);
