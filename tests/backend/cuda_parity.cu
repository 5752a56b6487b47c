// SPDX-License-Identifier: Apache-2.0
// The GPU against the CPU (parity.cuh), under both roundings, for every kind of head.
#include <doctest/doctest.h>

#include "backend/parity.cuh"

using namespace hull;
using namespace hull::reference;

namespace {

// clang-format off
struct dense final : decltype(Input<40> >> Linear<"a", 150> >> Relu >> Linear<"b", 300> >> Relu >>
                              Linear<"c", 70> >> Relu >> Linear<"d", 5>) {};
struct wide final : decltype(Input<40> >> Linear<"a", 600> >> Relu >> Linear<"b", 700> >> Relu >>
                             Linear<"c", 530> >> Tanh >> Linear<"d", 5>) {};
struct curved final : decltype(Input<30> >> Linear<"a", 50> >> Tanh >> Linear<"b", 40> >> Sigmoid >>
                               Linear<"c", 30> >> LeakyRelu<"l"> >> Linear<"d", 4>) {};
// more elements than one tile of a stage, and a last tile that is not full
struct broad final : decltype(Input<20> >> Linear<"a", 4500> >> Relu >> Linear<"b", 70> >> Relu >> Linear<"c", 3>) {};
constexpr auto stem = Input<2, 6, 6> >> Conv<"a", 20, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
struct residual final : decltype((stem + (stem >> Conv<"b", 20, kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>> >> Tanh)) >>
                                 MaxPool<kernel<2, 2>, stride<2, 2>> >> Flatten >> Linear<"c", 150> >> Relu >>
                                 Linear<"d", 70> >> Relu >> Linear<"e", 5>) {};
struct pooled final : decltype(Input<3, 8, 8> >> Conv<"a", 8, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>> >> Relu >>
                               AveragePool<kernel<3, 3>, pad<1, 1, 1, 1>> >> Conv<"b", 12, kernel<3, 3>> >> Relu >>
                               MaxPool<kernel<2, 2>> >> Flatten >> Linear<"c", 20> >> Relu >> Linear<"d", 4>) {};
// elements that several read, and zeros between elements
struct enlarged final : decltype(Input<2, 4, 5> >> Conv<"a", 6, kernel<2, 2>> >> Relu >> Upsample<2, 3> >>
                                 Conv<"b", 5, kernel<3, 3>, stride<2, 2>> >> Relu >> Spread<2, 2> >>
                                 Conv<"c", 4, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >> Flatten >> Linear<"d", 3>) {};
// clang-format on

}  // namespace

TEST_CASE("residual and grouped convolutions") { compare<residual, Outward>("residual", 3, 0.05); }

#ifndef HULL_CUDA_QUICK  // where nothing can run, one network under one rounding is compiled: all take minutes
TEST_CASE("dense networks") {
  compare<dense, Outward>("dense", 1, 0.05);
  compare<dense, Nearest>("dense", 1, 0.05);
}
TEST_CASE("wide networks") {
  compare<wide, Outward>("wide", 5, 0.02);
  compare<wide, Nearest>("wide", 5, 0.02);
}
TEST_CASE("wide networks on tensor cores") {
  compare<wide, Outward, hull::cuda::Tf32x3>("wide", 5, 0.02);
  compare<wide, Nearest, hull::cuda::Tf32x3>("wide", 5, 0.02);
}
TEST_CASE("wide networks on tensor cores, halfs") {
  if (!hull::cuda::has_wgmma()) return;
  compare<wide, Outward, hull::cuda::Fp16x3>("wide", 5, 0.02);
  compare<wide, Nearest, hull::cuda::Fp16x3>("wide", 5, 0.02);
}
TEST_CASE("a stage in several tiles") {
  compare<broad, Outward>("broad", 6, 0.05);
  compare<broad, Nearest>("broad", 6, 0.05);
}
TEST_CASE("curved activations") {
  compare<curved, Outward>("curved", 2, 0.1);
  compare<curved, Nearest>("curved", 2, 0.1);
}
TEST_CASE("residual and grouped convolutions, nearest") { compare<residual, Nearest>("residual", 3, 0.05); }
TEST_CASE("images that become larger") {
  compare<enlarged, Outward>("enlarged", 9, 0.05);
  compare<enlarged, Nearest>("enlarged", 9, 0.05);
}
TEST_CASE("pools with windows that overlap") {
  compare<pooled, Outward>("pooled", 4, 0.05);
  compare<pooled, Nearest>("pooled", 4, 0.05);
}
#endif
