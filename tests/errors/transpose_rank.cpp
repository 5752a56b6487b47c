// expect: hull: Transpose takes each axis of its operand once
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<2, 3, 4> >> Transpose<1, 0>) {};

static_assert(graph<bad>::output_size > 0);
