// expect: hull: Squeeze removes axes of length 1 only
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<2, 3> >> Squeeze<0>) {};

static_assert(graph<bad>::output_size > 0);
