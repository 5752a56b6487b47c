// expect: put Flatten before it
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

struct bad final : decltype(Input<1, 8, 8> >> Conv<"c", 4, kernel<3, 3>> >> Relu >> Linear<"fc", 10>) {};

static_assert(graph<bad>::output_size > 0);
