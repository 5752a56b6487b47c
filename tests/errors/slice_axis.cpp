// expect: hull: Slice along an axis that its operand does not have
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<6> >> Slice<1, 0, 1>) {};

static_assert(graph<bad>::output_size > 0);
