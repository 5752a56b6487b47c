// expect: hull: a shape has at most 6 dimensions
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<1, 2, 3, 4, 5, 6, 7>) {};

static_assert(graph<bad>::output_size > 0);
