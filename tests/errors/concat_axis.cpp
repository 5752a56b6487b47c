// expect: hull: Concat along an axis that its operands do not have
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Concat<1>(Input<4>, Input<4> >> Relu)) {};

static_assert(graph<bad>::output_size > 0);
