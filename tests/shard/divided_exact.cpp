// SPDX-License-Identifier: Apache-2.0
// A linear pair of layers whose parts nearly cancel across ranks: bounds must not exceed the exact minimum.
#include <cmath>
#include <doctest/doctest.h>
#include <vector>

#include "cancelling.hpp"
#include "support/exact_sum.hpp"
#include "support/hard_sums.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

/// CROWN's bound, that of intervals and the end of the last interval are sound for the exact sums.
template <Network Net, std::size_t P>
void check_ranks(parameter_map const& p, box_type const& box, exact_sum const& least) {
  CAPTURE(P);
  auto const bounds = lower_bounds<cpu::backend, Net, P>(p, box, [](auto& all, auto const& rows) {
    auto const crown = all.lower_bounds(rows), interval = all.interval_bounds(rows);
    return std::vector<double>{crown[0], interval[0], all.state().stage[2].lower[0]};
  });
  CHECK(bounds.size() == 3);
  for (double const bound : bounds) {
    CHECK(std::isfinite(bound));
    CHECK(least.at_least(bound));
  }
}

}  // namespace

TEST_CASE("two layers that cancel across ranks") {
  random_engine random(7);
  for (int round = 0; round < 6; ++round) {
    auto const p = two_layers_parameters(random);
    auto const box = float_box(random, 60, round == 5 ? 0 : std::ldexp(1, -3 * round));
    auto const least = two_layers_minimum(p, box);
    check_ranks<two_layers, 2>(p, box, least);
    check_ranks<two_layers, 3>(p, box, least);
    check_ranks<two_layers, 8>(p, box, least);
  }
}

TEST_CASE("what additions over ranks lose") {
  exact_sum least;
  least.add(-1.0).add(-7 * 0x1p-24);
  check_ranks<one_each, 8>(one_each_parameters(), {{-1, 1}}, least);
}
