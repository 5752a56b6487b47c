// SPDX-License-Identifier: Apache-2.0
// Replicated and FullySharded: bounds equal those of one rank to the bit, whatever the number of ranks.
#include <atomic>
#include <doctest/doctest.h>

#include "ranks.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

template <Sharding S, Network Net, class R>
void check_policy(question<Net> const& asked, hidden_bounds method, std::size_t row_bytes, answer const& expected) {
  for (std::size_t const ranks : {1, 2, 3, 4, 8}) {
    std::atomic<std::size_t> equal = 0;
    Loopback::run(ranks, [&](Loopback& others) {
      using here = on<cpu::backend, S, Loopback>;
      auto const weights = here::template load<Net>(asked.p, others);
      typename here::template machine<Net, R> machine(here::template join<Net>(weights, others));
      equal += asked.ask(machine, method, row_bytes) == expected ? 1 : 0;
    });
    INFO(S::name, ", ranks: ", ranks, ", method: ", static_cast<int>(method));
    CHECK(equal == ranks);
  }
}

template <Network Net, class R>
void check_net(std::size_t seed) {
  question<Net> const asked(seed);
  parameters<Net> const weights(asked.p);
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    for (std::size_t const row_bytes : {std::size_t{1} << 22, std::size_t{0}}) {
      cpu::machine<Net, R> machine(weights);
      auto const expected = asked.ask(machine, method, row_bytes);
      check_policy<Replicated, Net, R>(asked, method, row_bytes, expected);
      check_policy<FullySharded, Net, R>(asked, method, row_bytes, expected);
    }
  }
}

}  // namespace

TEST_CASE("matrices of several blocks") { check_net<wide, Outward>(11); }
TEST_CASE("convolutions") { check_net<planes, Outward>(12); }
TEST_CASE("pools and grouped convolutions") { check_net<pooled, Outward>(15); }
TEST_CASE("two branches that share a trunk") { check_net<residual, Nearest>(13); }

TEST_CASE("a rank that fails ends the others with its message") {
  question<wide> const asked(11);
  using here = on<cpu::backend, FullySharded, Loopback>;
  std::atomic<std::size_t> told = 0;
  auto const run = [&] {
    Loopback::run(3, [&](Loopback& others) {
      try {
        auto const weights = here::load<wide>(asked.p, others);
        here::machine<wide, Outward> machine(here::join<wide>(weights, others));
        if (others.rank() == 1) throw error("no memory left", fault::device);
        static_cast<void>(asked.ask(machine, hidden_bounds::crown, 0));
      } catch (error const& e) {
        told += std::string(e.what()).find("rank 1 failed: no memory left") != std::string::npos ? 1 : 0;
        throw;
      }
    });
  };
  CHECK_THROWS_WITH_AS(run(), "no memory left", error);
  CHECK(told == 2);
}
