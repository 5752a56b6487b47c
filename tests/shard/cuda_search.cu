// SPDX-License-Identifier: Apache-2.0
// Branch and bound of ranks that share a GPU: with whole or sharded parameters the search of one rank, with divided
// neurons its verdicts.
#ifndef HULL_CUDA_QUICK
#include <cstddef>
#include <doctest/doctest.h>
#include <memory>
#include <utility>
#include <vector>

#include <hull/backend/cuda/verifier.cuh>

#include "points.hpp"
#include "search.hpp"
#include "support/brief.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

auto outputs_of(parameter_map const& p) {
  return
      [values = std::make_shared<point_values<deep>>(p)](std::vector<double> const& x) { return values->outputs(x); };
}

template <Sharding Policy, std::size_t P>
std::vector<told> ask_ranks(parameter_map const& p, specification const& spec) {
  using place = on<hull::cuda::with_host<>, Policy, Loopback>;
  using part = typename place::template network<deep, P>;
  std::vector<told> found(P);
  Loopback::run(P, [&](Loopback& others) {
    verifier<part, home<part, place, Outward>> engine(p, others);
    found[others.rank()] = ask_with(engine, outputs_of(p), spec);
  });
  return found;
}

template <Sharding Policy>
void check_search() {
  std::size_t domains = 0;
  // with about 40 domains and about 200
  for (auto const& [seed, share] : {std::pair<std::size_t, double>{50, 0.1}, {52, 0.05}}) {
    if (brief() && domains > 0) break;
    auto const p = random_parameters<deep>(seed, 1.3);
    auto const spec = near_edge_of<deep>(outputs_of(p), share, 0.3);
    hull::cuda::verifier<deep> alone(p);
    auto const expected = ask_with(alone, outputs_of(p), spec);
    domains += expected.domains;
    for (auto const& one : ask_ranks<Policy, 2>(p, spec)) {
      INFO(Policy::name, ", domains ", one.domains, ", one rank visits ", expected.domains);
      CHECK(one.answer == expected.answer);
      if constexpr (!std::same_as<Policy, TensorParallel>) CHECK(one == expected);
    }
  }
  CHECK(domains > 20);
}

}  // namespace

TEST_CASE("branch and bound on a GPU, whole parameters") { check_search<Replicated>(); }
TEST_CASE("branch and bound on a GPU, sharded parameters") { check_search<FullySharded>(); }
TEST_CASE("branch and bound on a GPU, divided neurons") { check_search<TensorParallel>(); }
#endif
