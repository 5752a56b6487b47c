// SPDX-License-Identifier: Apache-2.0
// Branch and bound on several ranks visits the domains that one rank visits, and says what it says.
#include <doctest/doctest.h>
#include <map>
#include <mutex>
#include <string>

#include <hull/backend/cpu/verifier.hpp>
#include <hull/search/verifier.hpp>
#include <hull/shard/home.hpp>

#include "ranks.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct deep final : decltype(Input<30> >> Linear<"a", 16> >> Relu >> Linear<"b", 14> >> Relu >> Linear<"c", 10> >>
                             Relu >> Linear<"d", 3>) {};

struct told final {
  verdict answer = verdict::unknown;
  std::size_t domains = 0, search = 0;
  std::vector<double> margins;
  friend bool operator==(told const& a, told const& b) {
    return a.answer == b.answer && a.domains == b.domains && a.margins == b.margins;
  }
};

/// A margin of the first output a little above or below its least sampled value.
specification near_edge(parameter_map const& p, double share) {
  random_engine random(3);
  specification spec{30, 3, {}, "test"};
  auto const box = random_box(random, 30, 0.3);
  linear_constraint form{{{0, 1.0}, {1, -1.0}}, {}, 0, false};
  double least = 1e30, most = -1e30;
  for (std::size_t n = 0; n < 4000; ++n) {
    std::vector<long double> x;
    for (auto const& range : box) {
      double const at = n % 2 == 0 ? uniform(random, 0, 1) : std::round(uniform(random, 0, 1));
      x.push_back(range.lower + at * (range.upper - range.lower));
    }
    auto const y = evaluate<deep>(p, x).back().data;
    double const value = static_cast<double>(y[0] - y[1]);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  form.constant = -(least - share * (most - least));
  spec.disjuncts.push_back({box, {form}});
  return spec;
}

template <class Engine>
told ask(Engine& engine, parameter_map const& p, specification const& spec) {
  confirm_function const confirm = [&](std::span<double const> x) {
    std::vector<long double> const at(x.begin(), x.end());
    auto const y = evaluate<deep>(p, at).back().data;
    return value_of(spec.disjuncts[0].constraints[0], y, at) <= 0;
  };
  verify_options options;
  options.method = bound_method::branch;
  options.timeout = 60;
  auto const report = engine.verify(spec, options, confirm);
  told found{report.answer, report.domains, 0, report.margins};
  for (auto const& one : report.ranks) found.search = std::max(found.search, one.search);
  return found;
}

template <Sharding S>
void check_policy(parameter_map const& p, specification const& spec, told const& expected) {
  for (std::size_t const ranks : {2, 3}) {
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
