// SPDX-License-Identifier: Apache-2.0
// Branch and bound where ranks divide neurons (TensorParallel): the verdicts of one rank, leaves with linear programs
// included, and the same search on every rank.
#include <doctest/doctest.h>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "search.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

template <std::size_t P>
std::vector<told> ask_ranks(parameter_map const& p, specification const& spec) {
  using place = on<cpu::backend, TensorParallel, Loopback>;
  using part = typename place::template network<deep, P>;
  std::vector<told> found(P);
  Loopback::run(P, [&](Loopback& others) {
    verifier<part, home<part, place, Outward>> engine(p, others);
    found[others.rank()] = ask(engine, p, spec);
  });
  return found;
}

/// Returns how many domains the ranks visited together.
template <std::size_t P>
std::size_t check_ranks(parameter_map const& p, specification const& spec, told const& expected) {
  auto const found = ask_ranks<P>(p, spec);
  for (auto const& one : found) {
    INFO("ranks ", P, ", domains ", one.domains, ", one rank visits ", expected.domains);
    CHECK(one == found.front());
    CHECK(one.answer == expected.answer);
  }
  return found.front().domains;
}

}  // namespace

TEST_CASE("divided neurons, the same verdict") {
  std::map<verdict, int> seen;
  std::size_t domains = 0;
  for (std::size_t const seed : {51, 52, 53}) {
    auto const p = random_parameters<deep>(seed, 1.3);
    for (double const share : {0.05, 0.2}) {
      auto const spec = near_edge(p, share);
      cpu::verifier<deep> alone(p);
      auto const expected = ask(alone, p, spec);
      MESSAGE(to_string(expected.answer), " after ", expected.domains, " domains");
      ++seen[expected.answer];
      domains += check_ranks<2>(p, spec, expected);
      domains += check_ranks<3>(p, spec, expected);
    }
  }
  CHECK(seen[verdict::unsat] > 1);
  CHECK(domains > 100);
}
