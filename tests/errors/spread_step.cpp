// expect: hull: Spread by a step of 0
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<1, 2, 2> >> Spread<0, 1>) {};

static_assert(graph<bad>::output_size > 0);
