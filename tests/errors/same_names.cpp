// expect: hull: two different layers have the same name
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<4> >> Linear<"fc", 4> >> Relu >> Linear<"fc", 2>) {};

static_assert(stage_count<bad> > 0);
