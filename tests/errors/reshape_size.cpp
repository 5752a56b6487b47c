// expect: hull: Reshape cannot change the number of elements
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<12> >> Reshape<5, 2>) {};

static_assert(graph<bad>::output_size > 0);
