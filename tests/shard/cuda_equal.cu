// SPDX-License-Identifier: Apache-2.0
// Replicated ranks on one GPU: bounds equal those of one rank to the bit, and each takes its part of the memory.
#include <atomic>
#include <doctest/doctest.h>

#include <hull/backend/cuda/machine.cuh>

#include "ranks.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

template <Network Net, class R>
void check_net(std::size_t seed) {
  question<Net> const asked(seed);
  parameters<Net> const weights(asked.p);
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    hull::cuda::machine<Net, R> machine(weights);
    std::size_t const row_bytes = std::size_t{1} << 22;
    auto const expected = asked.ask(machine, method, row_bytes);
    for (std::size_t const ranks : {1, 2, 3, 4}) {
      std::atomic<std::size_t> equal = 0, most = 0;
      Loopback::run(ranks, [&](Loopback& others) {
        using here = on<hull::cuda::backend, Replicated, Loopback>;
        auto const own = here::template load<Net>(asked.p, others);
        typename here::template machine<Net, R> part(here::template join<Net>(own, others));
        equal += asked.ask(part, method, row_bytes) == expected ? 1 : 0;
        if (others.rank() == 0) most = part.memory().peak();
      });
      CAPTURE(ranks);
      CAPTURE(static_cast<int>(method));
      CHECK(equal == ranks);
      CHECK(most <= machine.memory().peak());
    }
  }
}

}  // namespace

TEST_CASE("ranks on one GPU") { check_net<wide, Outward>(11); }
