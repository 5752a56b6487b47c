// expect: no error
// SPDX-License-Identifier: Apache-2.0
// If this file fails, the others in this folder may fail for the wrong reason.
#include <hull/core/config.hpp>
#include <hull/core/error.hpp>
#include <hull/net/network.hpp>

using namespace hull;

static_assert(!version.empty());

// clang-format off
constexpr auto stem = Input<8, 8, 3> >> Transpose<2, 0, 1> >> Conv<"c", 4, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
constexpr auto joined = Concat<0>(stem, stem >> Conv<"d", 2, groups<2>> >> Tanh) >> MaxPool<kernel<2, 2>, stride<2, 2>>;
// clang-format on
struct good final : decltype((joined - (joined >> Sigmoid)) >> Reshape<6, 16> >> Slice<0, 1, 5> >> Unsqueeze<0> >>
                             Squeeze<0> >> Flatten >> Linear<"fc", 10>) {};

static_assert(graph<good>::output_size == 10 && stage_count<good> == 10);
static_assert(parameter_slots<good>.size() == 6);
