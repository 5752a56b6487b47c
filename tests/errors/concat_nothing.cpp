// expect: hull: Concat needs at least one operand
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

constexpr auto bad = Concat<0>();
