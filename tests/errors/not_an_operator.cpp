// expect: hull: only an operator may stand right of >>
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct relu_of_mine final {};
struct bad final : decltype(Input<4> >> relu_of_mine{}) {};
