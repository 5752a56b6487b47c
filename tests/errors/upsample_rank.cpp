// expect: hull: Upsample takes [channels, height, width]
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<6> >> Upsample<2, 2>) {};

static_assert(graph<bad>::output_size > 0);
