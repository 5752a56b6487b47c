// expect: hull: the range of this Slice is empty or leaves its operand
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<6> >> Slice<0, 2, 7>) {};

static_assert(graph<bad>::output_size > 0);
