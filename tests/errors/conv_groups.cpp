// expect: hull: groups of a Conv must divide its input and output channels
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<3, 8, 8> >> Conv<"c", 4, kernel<3, 3>, groups<2>>) {};

static_assert(graph<bad>::output_size > 0);
