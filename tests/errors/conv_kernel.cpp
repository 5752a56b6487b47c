// expect: hull: the kernel of this Conv is larger than its padded input
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<3, 4, 4> >> Conv<"c", 4, kernel<5, 5>>) {};

static_assert(graph<bad>::output_size > 0);
