// SPDX-License-Identifier: Apache-2.0
// The GPU against the CPU (parity.cuh), for rows that are patches, and for convolutions on tensor cores.
#ifndef HULL_CUDA_QUICK  // where nothing can run, one network under one rounding is compiled: all take minutes
#include <doctest/doctest.h>

#include "backend/parity.cuh"

using namespace hull;
using namespace hull::reference;

namespace {

// clang-format off
constexpr auto stem = Input<2, 6, 6> >> Conv<"a", 20, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
struct residual final : decltype((stem + (stem >> Conv<"b", 20, kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>> >> Tanh)) >>
                                 MaxPool<kernel<2, 2>, stride<2, 2>> >> Flatten >> Linear<"c", 150> >> Relu >>
                                 Linear<"d", 70> >> Relu >> Linear<"e", 5>) {};
// Rows are patches: three stages of them, borders of all sorts, groups with gaps, and a patch that becomes dense.
struct chain final : decltype(Input<3, 16, 16> >> Conv<"a", 32, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                              Conv<"b", 12, kernel<3, 3>, stride<2, 2>, pad<1, 0, 1, 1>, groups<2>> >> Tanh >>
                              Conv<"c", 16, kernel<5, 3>, pad<2, 1, 1, 2>> >> Relu >>
                              Conv<"d", 8, kernel<3, 3>, stride<2, 2>, pad<0, 1, 1, 1>> >> Relu >> Flatten >>
                              Linear<"e", 6>) {};
// Dilation, windows that step over elements, one channel and many.
struct uneven_chain final : decltype(Input<1, 20, 20> >>
                                     Conv<"a", 5, kernel<3, 3>, dilation<2, 2>, pad<2, 2, 2, 2>> >> Sigmoid >>
                                     Conv<"b", 6, kernel<2, 2>, stride<3, 3>> >> Relu >> Conv<"c", 70, kernel<1, 1>> >>
                                     Relu >> Conv<"d", 4, kernel<3, 3>, stride<2, 1>, dilation<1, 2>, pad<1, 2, 1, 2>> >>
                                     Relu >> Flatten >> Linear<"e", 3>) {};
// The last step in one kernel, with all that a convolution can have; one start has the input as its operand.
struct strided_chain final : decltype(Input<2, 19, 23> >>
                                      Conv<"a", 64, kernel<3, 4>, stride<2, 3>, dilation<3, 2>, pad<2, 3, 1, 0>> >>
                                      LeakyRelu<"l"> >> Conv<"b", 9, kernel<3, 2>, stride<1, 2>, pad<1, 1, 0, 0>> >>
                                      Relu >> Flatten >> Linear<"c", 3>) {};
// Tiles of 32 and of 64 channels, of patches and of dense rows, and the last step in one kernel with two times 32
// channels; groups, and rows that a sum keeps dense.
struct channels final : decltype(Input<3, 14, 14> >> Conv<"a", 64, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                                 Conv<"b", 72, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>> >> Relu >>
                                 Conv<"c", 32, kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>> >> Relu >>
                                 Conv<"d", 6, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>> >> Relu >> Flatten >>
                                 Linear<"e", 4>) {};
// clang-format on

using hull::cuda::patches;
static_assert(patches<chain>[3][2].kept && patches<chain>[3][1].kept && patches<chain>[3][0].kept);
static_assert(patches<chain>[3][1].down.extent == 11 && patches<chain>[3][1].across.extent == 7);
static_assert(patches<chain>[4][3].kept && !patches<chain>[4][2].kept && !patches<chain>[4][1].kept);
static_assert(patches<chain>[2][0].summed && patches<chain>[3][0].summed && patches<strided_chain>[2][0].summed);
static_assert(patches<uneven_chain>[3][1].kept && patches<uneven_chain>[4][3].kept);
using hull::cuda::climbs_as_patches;
static_assert(climbs_as_patches<chain>(3) && !climbs_as_patches<chain>(4) && climbs_as_patches<strided_chain>(2));
static_assert(patches<channels>[2][0].summed && patches<channels>[3][1].kept && !patches<channels>[4][2].kept);

}  // namespace

TEST_CASE("a chain of convolutions") {
  compare<chain, Outward>("chain", 5, 0.012);
  compare<chain, Nearest>("chain", 5, 0.03);
}
TEST_CASE("a chain of convolutions with dilation and gaps") {
  compare<uneven_chain, Outward>("uneven chain", 6, 0.1);
  compare<uneven_chain, Nearest>("uneven chain", 6, 0.1);
}
TEST_CASE("a chain of convolutions with strides") {
  compare<strided_chain, Outward>("strided chain", 7, 0.05);
  compare<strided_chain, Nearest>("strided chain", 7, 0.05);
}
TEST_CASE("a chain of convolutions on tensor cores") {
  if (!hull::cuda::has_wgmma()) return;
  compare<chain, Outward, hull::cuda::Fp16x3>("chain", 5, 0.012);
  compare<chain, Nearest, hull::cuda::Fp16x3>("chain", 5, 0.012);
}
TEST_CASE("chains with dilation, gaps and strides on tensor cores") {
  if (!hull::cuda::has_wgmma()) return;
  compare<uneven_chain, Outward, hull::cuda::Fp16x3>("uneven chain", 6, 0.1);
  compare<strided_chain, Outward, hull::cuda::Fp16x3>("strided chain", 7, 0.05);
}
TEST_CASE("a residual network on tensor cores") {
  if (hull::cuda::has_wgmma()) compare<residual, Outward, hull::cuda::Fp16x3>("residual", 3, 0.05);
}
TEST_CASE("all tiles of convolutions on tensor cores") {
  if (!hull::cuda::has_wgmma()) return;
  compare<channels, Outward, hull::cuda::Fp16x3>("channels", 8, 0.01, false);
  compare<channels, Nearest, hull::cuda::Fp16x3>("channels", 8, 0.01, false);
}
#endif
