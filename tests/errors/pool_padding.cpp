// expect: hull: a window of this MaxPool lies in the padding alone
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<3, 4, 4> >> MaxPool<kernel<2, 2>, pad<2, 0, 0, 0>>) {};

static_assert(graph<bad>::output_size > 0);
