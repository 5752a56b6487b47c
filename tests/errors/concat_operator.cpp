// expect: hull: the operands of Concat are expressions, each from Input on
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

constexpr auto bad = Concat<0>(Input<4>, Relu);
