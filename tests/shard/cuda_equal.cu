// SPDX-License-Identifier: Apache-2.0
// Ranks on one GPU: bounds equal those of one rank to the bit, whether ranks have all parameters or a part, and each
// takes its part of the memory.
#include <atomic>
#include <concepts>
#include <doctest/doctest.h>
#include <type_traits>

#include <hull/backend/cuda/backend.cuh>

#include "in_stream.cuh"
#include "ranks.hpp"
#include "support/brief.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

#ifndef HULL_CUDA_QUICK
/// Wide enough for tensor cores.
struct broad final : decltype(Input<40> >> Linear<"a", 600> >> Relu >> Linear<"b", 530> >> Relu >> Linear<"c", 5>) {};
#endif

/// `C`: Loopback, or InStream, with which blocks are collected ahead of use.
template <Network Net, class R, Sharding Policy, class P, class C>
void check_policy(question<Net> const& asked, hidden_bounds method, std::size_t row_bytes, answer const& expected,
                  std::size_t peak_of_one) {
  for (std::size_t const ranks : {1, 2, 3, 4}) {
    if (brief() && (ranks == 1 || ranks == 4)) continue;
    std::atomic<std::size_t> equal = 0, most = 0, as_planned = 0;
    Loopback::run(ranks, [&](Loopback& threads) {
      using here = on<hull::cuda::backend_with<P>, Policy, C>;
      std::conditional_t<std::same_as<C, Loopback>, Loopback&, C> others(threads);
      auto const own = here::template load<Net>(asked.p, others);
      typename here::template machine<Net, R> part(here::template join<Net>(own, others));
      equal += asked.ask(part, method, row_bytes) == expected ? 1 : 0;
      propagation<Net, decltype(part)> const all(part, row_bytes);
      as_planned += part.memory().peak() == all.plan(asked.boxes(method).size(), method) ? 1 : 0;
      if (others.rank() == 0) most = part.memory().peak();
    });
    CAPTURE(Policy::name);
    CAPTURE(ranks);
    CAPTURE(static_cast<int>(method));
    CHECK(equal == ranks);
    CHECK(as_planned == ranks);
    CHECK(most <= peak_of_one);
  }
}

template <Network Net, class R>
void check_net(std::size_t seed) {
  question<Net> const asked(seed);
  parameters<Net> const weights(asked.p);
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    for (std::size_t const row_bytes : {std::size_t{1} << 16, std::size_t{1} << 22}) {
      if (brief() && row_bytes > 1 << 16) break;
      hull::cuda::machine<Net, R> machine(weights);
      auto const expected = asked.ask(machine, method, row_bytes);
      std::size_t const peak = machine.memory().peak(), any = ~std::size_t{0};
      using hull::cuda::Fp32;
      check_policy<Net, R, Replicated, Fp32, Loopback>(asked, method, row_bytes, expected, peak);
      check_policy<Net, R, FullySharded, Fp32, InStream>(asked, method, row_bytes, expected, any);
#ifndef HULL_CUDA_QUICK
      check_policy<Net, R, Replicated, Fp32, InStream>(asked, method, row_bytes, expected, peak);
      check_policy<Net, R, FullySharded, Fp32, Loopback>(asked, method, row_bytes, expected, any);
#endif
    }
  }
}

#ifndef HULL_CUDA_QUICK
template <class P>
void check_tensor_cores() {
  question<broad> const asked(14);
  parameters<broad> const weights(asked.p);
  hull::cuda::machine<broad, Outward, lone_member<broad>, P> machine(weights);
  std::size_t const row_bytes = std::size_t{1} << 23, any = ~std::size_t{0};
  auto const expected = asked.ask(machine, hidden_bounds::crown, row_bytes);
  check_policy<broad, Outward, FullySharded, P, InStream>(asked, hidden_bounds::crown, row_bytes, expected, any);
}
#endif

}  // namespace

// HULL_DEVICE_BLOCK_BYTES is small for these, so that matrices fall into several blocks.
static_assert(block_count(75, 61, hull::cuda::weight_block_bytes) > 1);

TEST_CASE("matrices in parts") { check_net<wide, Outward>(11); }
TEST_CASE("filters in parts") { check_net<planes, Outward>(12); }
TEST_CASE("parts of a residual network") { check_net<residual, Outward>(13); }
#ifndef HULL_CUDA_QUICK
TEST_CASE("parts of pools and grouped convolutions") { check_net<pooled, Outward>(15); }
TEST_CASE("matrices in parts, on tensor cores") {
  check_tensor_cores<hull::cuda::Tf32x3>();
  if (hull::cuda::has_wgmma()) check_tensor_cores<hull::cuda::Fp16x3>();
}
#endif
