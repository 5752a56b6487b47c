// expect: hull: a network has one Input
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

// clang-format off
constexpr auto a = Input<4> >> Linear<"a", 3>;
constexpr auto b = Input<5> >> Linear<"b", 3>;
// clang-format on
struct bad final : decltype(a + b) {};

static_assert(stage_count<bad> > 0);
