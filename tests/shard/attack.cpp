// SPDX-License-Identifier: Apache-2.0
// Ranks divide the points of an attack: each confirms its own, and all get the same counterexample.
#include <atomic>
#include <doctest/doctest.h>
#include <mutex>
#include <vector>

#include <hull/search/attack.hpp>

#include "search.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct attacked final {
  std::vector<std::vector<double>> found{};  // by every rank
  std::size_t confirmed = 0;                 // candidates that some rank looked at
};

/// Attacks the first disjunct with `restarts` points on P ranks.
template <Sharding S, std::size_t P>
attacked attack_with(parameter_map const& p, specification const& spec, std::size_t restarts) {
  using place = on<cpu::backend, S, Loopback>;
  using part = typename place::template network<deep, P>;
  attacked all;
  all.found.resize(P);
  std::atomic<std::size_t> confirmed = 0;
  Loopback::run(P, [&](Loopback& ranks) {
    auto const own = place::template load<part>(p, ranks);
    exact_outputs<deep> const outputs{&p};
    confirm_function const confirm = [&](std::span<double const> x) {
      ++confirmed;
      std::vector<long double> const at(x.begin(), x.end());
      return value_of(spec.disjuncts[0].constraints[0], outputs({x.begin(), x.end()}), at) <= 0;
    };
    verify_options options;
    options.steps = 20;
    std::size_t const first = 0;
    attack<part, typename place::template machine<part, Nearest>> search(place::template join<part>(own, ranks),
                                                                         std::size_t{1} << 20);
    all.found[ranks.rank()] = search.search(spec, {&first, 1}, restarts, options, confirm, deadline());
  });
  all.confirmed = confirmed;
  return all;
}

/// All ranks have the same point, in the box, and it is one.
void check_found(attacked const& all, parameter_map const& p, specification const& spec) {
  for (auto const& one : all.found) CHECK(one == all.found.front());
  auto const& x = all.found.front();
  REQUIRE(x.size() == spec.inputs);
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(x[i] >= spec.disjuncts[0].box[i].lower);
    CHECK(x[i] <= spec.disjuncts[0].box[i].upper);
  }
  std::vector<long double> const at(x.begin(), x.end());
  CHECK(value_of(spec.disjuncts[0].constraints[0], exact_outputs<deep>{&p}(x), at) <= 0);
}

}  // namespace

TEST_CASE("a counterexample for all ranks") {
  auto const p = random_parameters<deep>(51, 1.3);
  auto const broken = near_edge(p, -0.3), kept = near_edge(p, 3);  // the least margin is far below 0, or above it
  for (std::size_t const restarts : {1, 2, 40}) {                  // fewer points than ranks, too
    CAPTURE(restarts);
    check_found(attack_with<Replicated, 1>(p, broken, restarts), p, broken);
    check_found(attack_with<Replicated, 3>(p, broken, restarts), p, broken);
    check_found(attack_with<FullySharded, 3>(p, broken, restarts), p, broken);
    check_found(attack_with<TensorParallel, 2>(p, broken, restarts), p, broken);
    for (auto const& none : attack_with<FullySharded, 3>(p, kept, restarts).found) CHECK(none.empty());
  }
}

TEST_CASE("a point is confirmed by one rank") {
  auto const p = random_parameters<deep>(51, 1.3);
  auto const spec = near_edge(p, -0.3);
  auto const alone = attack_with<Replicated, 1>(p, spec, 1), together = attack_with<Replicated, 3>(p, spec, 1);
  CHECK(alone.confirmed == 1);
  CHECK(together.confirmed == 1);
  CHECK(together.found[2] == alone.found[0]);
}
