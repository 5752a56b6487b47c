// expect: hull: the operands of Concat differ in another axis than the joined one
// SPDX-License-Identifier: Apache-2.0
#include <hull/net/network.hpp>

using namespace hull;

constexpr auto x = Input<3, 4, 4>;
struct bad final : decltype(Concat<0>(x, x >> MaxPool<kernel<2, 2>>)) {};

static_assert(graph<bad>::output_size > 0);
