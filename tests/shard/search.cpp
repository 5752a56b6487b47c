// SPDX-License-Identifier: Apache-2.0
// Branch and bound on several ranks visits the domains that one rank visits, and says what it says.
#include "search.hpp"

#include <doctest/doctest.h>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>

using namespace hull;
using namespace hull::reference;

namespace {

template <Sharding S, Network Net>
void check_policy(parameter_map const& p, specification const& spec, told const& expected,
                  std::initializer_list<std::size_t> counts) {
  for (std::size_t const ranks : counts) {
    std::mutex one_at_a_time;
    Loopback::run(ranks, [&](Loopback& others) {
      using place = on<cpu::backend, S, Loopback>;
      verifier<Net, home<Net, place, Outward>> engine(p, others);
      auto const found = ask<Net>(engine, p, spec);
      std::scoped_lock const hold(one_at_a_time);
      INFO(std::string(S::name), ", ranks ", ranks, ", domains ", found.domains, " of ", expected.domains);
      CHECK(found == expected);
    });
  }
}

/// Returns how many domains one rank visits.
template <Network Net>
std::size_t check_net(std::size_t seed, double share, double radius) {
  auto const p = random_parameters<Net>(seed, 1.3);
  auto const spec = near_edge<Net>(p, share, radius);
  cpu::verifier<Net> alone(p);
  auto const expected = ask<Net>(alone, p, spec);
  MESSAGE(to_string(expected.answer), " after ", expected.domains, " domains");
  check_policy<FullySharded, Net>(p, spec, expected, {2, 3, 5});
  return expected.domains;
}

}  // namespace

TEST_CASE("the same domains, the same verdict") {
  std::map<verdict, int> seen;
  for (std::size_t const seed : {51, 52, 53}) {
    auto const p = random_parameters<deep>(seed, 1.3);
    for (double const share : {0.05, 0.2}) {
      auto const spec = near_edge(p, share);
      cpu::verifier<deep> alone(p);
      auto const expected = ask(alone, p, spec);
      MESSAGE(to_string(expected.answer), " after ", expected.domains, " domains, ", expected.search, " bytes");
      ++seen[expected.answer];
      check_policy<Replicated, deep>(p, spec, expected, {2, 3, 4, 8});
      check_policy<FullySharded, deep>(p, spec, expected, {2, 3, 4, 8});
    }
  }
  CHECK(seen[verdict::unsat] > 1);
}

TEST_CASE("the same on convolutions and beside a trunk") {
  std::size_t domains = 0;
  for (double const share : {0.4, 0.7, 1.0}) domains += check_net<planes>(61, share, 0.15);
  domains += check_net<residual>(62, 0.3, 0.3);
  CHECK(domains > 20);
}
