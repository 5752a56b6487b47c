// expect: hull: only an operator may stand right of >>
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<4> >> Relu >> Input<4>) {};
