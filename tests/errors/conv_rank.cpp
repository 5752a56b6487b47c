// expect: hull: Conv takes [channels, height, width]
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<12> >> Conv<"c", 4, kernel<3, 3>>) {};

static_assert(graph<bad>::output_size > 0);
