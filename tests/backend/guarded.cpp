// SPDX-License-Identifier: Apache-2.0
// Bounds, branch and bound and its leaves' linear programs do not look into the machine's memory.
#include "guarded.hpp"

#include <doctest/doctest.h>
#include <map>

#include "shard/search.hpp"

using namespace hull;
using namespace hull::reference;

TEST_CASE("a search whose machine has memory of its own") {
  using place = on<guarded_backend>;
  std::map<verdict, int> seen;
  std::size_t domains = 0;
  for (std::size_t const seed : {51, 52, 53}) {
    auto const p = random_parameters<deep>(seed, 1.3);
    for (double const share : {0.05, 0.2}) {
      auto const spec = near_edge(p, share);
      cpu::verifier<deep> alone(p);
      verifier<deep, home<deep, place, Outward>> apart(p);
      auto const expected = ask(alone, p, spec), found = ask(apart, p, spec);
      INFO("domains ", found.domains, " of ", expected.domains);
      CHECK(found == expected);
      ++seen[found.answer];
      domains += found.domains;
    }
  }
  CHECK(seen[verdict::unsat] > 1);
  CHECK(domains > 100);
}
