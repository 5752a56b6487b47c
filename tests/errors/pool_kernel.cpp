// expect: hull: the kernel of this AveragePool is larger than its padded input
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<3, 4, 4> >> AveragePool<kernel<6, 2>>) {};

static_assert(graph<bad>::output_size > 0);
