// SPDX-License-Identifier: Apache-2.0
// Branch and bound on several ranks visits the domains that one rank visits, and says what it says.
#include "search.hpp"

#include <doctest/doctest.h>
#include <map>
#include <mutex>
#include <string>

using namespace hull;
using namespace hull::reference;

namespace {

template <Sharding S>
void check_policy(parameter_map const& p, specification const& spec, told const& expected) {
  for (std::size_t const ranks : {2, 3, 4, 8}) {
    std::mutex one_at_a_time;
    Loopback::run(ranks, [&](Loopback& others) {
      using place = on<cpu::backend, S, Loopback>;
      verifier<deep, home<deep, place, Outward>> engine(p, others);
      auto const found = ask(engine, p, spec);
      std::scoped_lock const hold(one_at_a_time);
      INFO(std::string(S::name), ", ranks ", ranks, ", domains ", found.domains, " of ", expected.domains);
      CHECK(found == expected);
    });
  }
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
      check_policy<Replicated>(p, spec, expected);
      check_policy<FullySharded>(p, spec, expected);
    }
  }
  CHECK(seen[verdict::unsat] > 1);
}
