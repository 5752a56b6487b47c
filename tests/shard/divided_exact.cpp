// SPDX-License-Identifier: Apache-2.0
// A linear pair of layers whose parts nearly cancel across ranks: bounds must not exceed the exact minimum.
#include <cmath>
#include <doctest/doctest.h>
#include <vector>

#include "ranks.hpp"
#include "support/exact_sum.hpp"
#include "support/hard_sums.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct two_layers final : decltype(Input<60> >> Linear<"a", 700> >> Linear<"b", 1>) {};
struct one_each final : decltype(Input<1> >> Linear<"a", 8> >> Linear<"b", 1>) {};

/// Bounds of the output from below that one of P ranks has: CROWN's, of intervals, and the end of the last interval.
template <Network Net, std::size_t P>
std::vector<double> lower_bounds(parameter_map const& p, box_type const& box) {
  using here = on<cpu::backend, TensorParallel, Loopback>;
  using part = here::network<Net, P>;
  std::vector<double> found;
  linear_constraint const form{{{0, 1.0}}, {}, 0, false};
  std::vector<row_form> const rows{{0, &form}};
  Loopback::run(P, [&](Loopback& ranks) {
    auto const own = here::load<part>(p, ranks);
    here::machine<part, Outward> machine(here::join<part>(own, ranks));
    propagation<part, decltype(machine)> all(machine);
    box_type const* const view = &box;
    all.run({&view, 1}, hidden_bounds::crown);
    auto const crown = all.lower_bounds(rows), interval = all.interval_bounds(rows);
    if (ranks.rank() == 0) found = {crown[0], interval[0], all.state().stage[2].lower[0]};
  });
  return found;
}

/// Sound for the exact sums.
template <Network Net, std::size_t P>
void check_ranks(parameter_map const& p, box_type const& box, exact_sum const& least) {
  CAPTURE(P);
  for (double const bound : lower_bounds<Net, P>(p, box)) {
    CHECK(std::isfinite(bound));
    CHECK(least.at_least(bound));
  }
}

}  // namespace

TEST_CASE("two layers that cancel across ranks") {
  random_engine random(7);
  for (int round = 0; round < 6; ++round) {
    parameter_map p;
    p.tensors = {{"a.weight", cancelling(random, 60 * 700)},
                 {"a.bias", cancelling(random, 700)},
                 {"b.weight", cancelling(random, 700)},
                 {"b.bias", {1}}};
    auto const& a = p.tensors["a.weight"];
    auto const& b = p.tensors["b.weight"];
    auto const box = float_box(random, 60, round == 5 ? 0 : std::ldexp(1, -3 * round));
    exact_sum least;
    least.add(1.0);
    for (std::size_t k = 0; k < 700; ++k) least.add(b[k], p.tensors["a.bias"][k]);
    for (std::size_t i = 0; i < 60; ++i) {
      exact_sum coefficient;
      for (std::size_t k = 0; k < 700; ++k) coefficient.add(b[k], a[k * 60 + i]);
      float const end = least_end(box[i], coefficient.sign());
      for (std::size_t k = 0; k < 700; ++k) least.add(b[k], a[k * 60 + i], end);
    }
    check_ranks<two_layers, 2>(p, box, least);
    check_ranks<two_layers, 3>(p, box, least);
    check_ranks<two_layers, 8>(p, box, least);
  }
}

// One neuron for each rank: a coefficient of 1 on the first, and half of its last place on every other, which each
// addition over ranks loses. What a rank's own product can lose would not pay for it.
TEST_CASE("what additions over ranks lose") {
  parameter_map p;
  p.tensors = {{"a.weight", std::vector<float>(8, 0x1p-24f)},
               {"a.bias", std::vector<float>(8, 0.0f)},
               {"b.weight", std::vector<float>(8, 1.0f)},
               {"b.bias", {0}}};
  p.tensors["a.weight"][0] = 1;
  exact_sum least;
  least.add(-1.0).add(-7 * 0x1p-24);
  check_ranks<one_each, 8>(p, {{-1, 1}}, least);
}
