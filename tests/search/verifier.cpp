// SPDX-License-Identifier: Apache-2.0
// Verdicts on networks whose answer is known by hand.
#include <cmath>
#include <doctest/doctest.h>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cpu/verifier.hpp>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

/// y0 = |x0| + |x1|, y1 = relu(x0) - relu(x0) = 0, which CROWN cannot see, y2 = x0
struct folds final : decltype(Input<2> >> Linear<"a", 6> >> Relu >> Linear<"b", 3>) {};
using verifier_type = cpu::verifier<folds>;

parameter_map const& numbers() {
  static parameter_map const p{{{"a.weight", {1, 0, -1, 0, 0, 1, 0, -1, 1, 0, 1, 0}},
                                {"a.bias", {0, 0, 0, 0, 0, 0}},
                                {"b.weight", {1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, -1, 1, -1, 0, 0, 0, 0}},
                                {"b.bias", {0, 0, 0}}},
                               false};
  return p;
}

box_type const square{{-1, 1}, {-1, 1}};

/// sum of terms + constant <= 0
linear_constraint form(std::vector<term> outputs, double constant, std::vector<term> inputs = {}, bool strict = false) {
  return {std::move(outputs), std::move(inputs), constant, strict};
}
linear_constraint below(std::size_t y, double limit) { return form({{y, 1}}, -limit); }  // y <= limit
linear_constraint above(std::size_t y, double limit) { return form({{y, -1}}, limit); }  // y >= limit

specification specified(std::vector<disjunct> cases) { return {2, 3, std::move(cases), "test"}; }

/// The definition of a counterexample, in double.
bool holds(specification const& spec, std::span<double const> x) {
  auto const y = evaluate<folds>(numbers(), std::vector<long double>(x.begin(), x.end())).back().data;
  std::vector<long double> const at(x.begin(), x.end());
  for (auto const& d : spec.disjuncts) {
    bool all = true;
    for (std::size_t i = 0; i < x.size(); ++i) all = all && x[i] >= d.box[i].lower && x[i] <= d.box[i].upper;
    for (auto const& c : d.constraints) all = all && (c.strict ? value_of(c, y, at) < 0 : value_of(c, y, at) <= 0);
    if (all) return true;
  }
  return false;
}

verify_report verify(specification const& spec, verify_options options = {}) {
  verifier_type v(numbers());
  auto report = v.verify(spec, options, [&](std::span<double const> x) { return holds(spec, x); });
  if (report.answer == verdict::sat) CHECK(holds(spec, report.counterexample));
  if (report.answer != verdict::sat) CHECK(report.counterexample.empty());
  CHECK(report.peak_bytes <= report.planned_bytes);
  return report;
}

verify_options with(bound_method method) {
  verify_options options;
  options.method = method;
  return options;
}

}  // namespace

TEST_CASE("one constraint") {
  for (auto const method : {bound_method::automatic, bound_method::crown, bound_method::interval}) {
    CHECK(verify(specified({{square, {below(0, -0.5)}}}), with(method)).answer == verdict::unsat);
    CHECK(verify(specified({{square, {above(0, 2.5)}}}), with(method)).answer ==
          (method == bound_method::interval ? verdict::unknown : verdict::unsat));
    CHECK(verify(specified({{square, {above(0, 1.9)}}}), with(method)).answer == verdict::sat);
    CHECK(verify(specified({{square, {below(0, 0.1)}}}), with(method)).answer == verdict::sat);
    CHECK(verify(specified({{square, {above(1, 0.25)}}}), with(method)).answer ==
          (method == bound_method::automatic ? verdict::unsat : verdict::unknown));
  }
}

TEST_CASE("a conjunction fails with one of its constraints") {
  CHECK(verify(specified({{square, {above(0, 1.5), below(0, -0.5)}}})).answer == verdict::unsat);
  CHECK(verify(specified({{square, {above(0, 1.5), above(2, 0.9)}}})).answer == verdict::sat);
  // each can hold, both together cannot: linear bounds of single constraints do not see it, smaller boxes do
  auto const both = specified({{square, {above(0, 1.5), below(0, 1.4)}}});
  CHECK(verify(both, with(bound_method::crown)).answer == verdict::unknown);
  CHECK(verify(both).answer == verdict::unsat);
}

TEST_CASE("a disjunction fails with all of its cases") {
  disjunct const no{square, {below(0, -0.5)}}, yes{square, {above(0, 1.9)}}, open{square, {above(1, 0.25)}};
  CHECK(verify(specified({no, no})).answer == verdict::unsat);
  CHECK(verify(specified({no, yes, no})).answer == verdict::sat);
  CHECK(verify(specified({no, open}), with(bound_method::crown)).answer == verdict::unknown);
  CHECK(verify(specified({open, yes})).answer == verdict::sat);
  disjunct const small{{{0.4, 0.5}, {0.4, 0.5}}, {above(0, 1.1)}}, other{{{0.9, 1}, {0.9, 1}}, {below(0, 1.7)}};
  auto const report = verify(specified({small, other, no, small}));
  CHECK(report.answer == verdict::unsat);
  CHECK(report.margins.size() == 4);
  CHECK(report.margins[0] == doctest::Approx(0.1).epsilon(1e-5));
  CHECK(report.margins[1] == doctest::Approx(0.1).epsilon(1e-5));
  CHECK(report.domains >= 4);
}

TEST_CASE("many boxes, few at a time") {
  std::vector<disjunct> cases;
  for (double i = 0; i < 700; ++i) cases.push_back({{{i, i + 0.5}, {i, i + 0.5}}, {below(0, 2 * i - 0.1)}});
  verify_options options;
  options.memory_budget = 1;
  CHECK_THROWS_AS(verify(specified(cases), options), error);
  options.memory_budget = 1100000;
  CHECK(verify(specified(cases), options).answer == verdict::unsat);
  options.memory_budget = 2000000;
  CHECK(verify(specified(cases), options).answer == verdict::unsat);
  cases[500].constraints = {above(0, 1000.5)};
  CHECK(verify(specified(cases), options).answer == verdict::sat);
}

TEST_CASE("terms over the inputs") {
  // y2 = x0, so y2 >= x0 + 0.1 has no solution and y2 >= x0 - 0.1 has every one
  CHECK(verify(specified({{{{0.5, 1}, {0, 1}}, {form({{2, -1}}, 0.1, {{0, 1}})}}})).answer == verdict::unsat);
  CHECK(verify(specified({{square, {form({{2, -1}}, -0.1, {{0, 1}})}}})).answer == verdict::sat);
  CHECK(verify(specified({{square, {form({}, 1.5, {{0, 1}})}}})).answer == verdict::unsat);  // x0 <= -1.5
  CHECK(verify(specified({{square, {form({}, 0.5, {{1, 1}})}}})).answer == verdict::sat);    // x1 <= -0.5
}

TEST_CASE("strict constraints, empty cases, nothing asked") {
  CHECK(verify(specified({{square, {form({}, 0, {}, true)}}})).answer == verdict::unsat);  // 0 < 0
  CHECK(verify(specified({{square, {form({}, 0)}}})).answer == verdict::sat);              // 0 <= 0
  CHECK(verify(specified({{square, {}}})).answer == verdict::sat);                         // every point will do
  CHECK(verify(specified({})).answer == verdict::unsat);
  box_type const origin{{0, 0}, {0, 0}};
  CHECK(verify(specified({{origin, {form({{0, 1}}, 0)}}})).answer == verdict::sat);
  CHECK(verify(specified({{origin, {form({{0, 1}}, 0, {}, true)}}})).answer != verdict::sat);
}

TEST_CASE("no time") {
  verify_options options;
  options.timeout = 0;
  CHECK(verify(specified({{square, {above(1, 0.25)}}}), options).answer == verdict::timeout);
  options.timeout = 1e300;
  CHECK(verify(specified({{square, {above(1, 0.25)}}}), options).answer == verdict::unsat);
}

TEST_CASE("confirm has the last word") {
  auto const spec = specified({{square, {above(0, 1.9)}}});
  verifier_type v(numbers());
  std::size_t asked = 0;
  auto const never = [&](std::span<double const> x) {
    ++asked;
    CHECK(holds(spec, x) == (std::fabs(x[0]) + std::fabs(x[1]) >= 1.9));
    return false;
  };
  auto const report = v.verify(spec, {}, never);
  CHECK(report.answer == verdict::unknown);
  CHECK(report.counterexample.empty());
  CHECK(asked > 0);
}

TEST_CASE("the attack alone") {
  parameters<folds> const weights(numbers());
  attack<folds, cpu::machine<folds, Nearest>> search(weights, std::size_t{1} << 20);
  // needs a corner of a box that is far from the centre
  auto const spec = specified({{{{-1, 3}, {-5, 1}}, {above(0, 7.999)}}, {{{-1, 3}, {-5, 1}}, {below(0, -1)}}});
  auto const confirm = [&](std::span<double const> x) { return holds(spec, x); };
  std::vector<std::size_t> const first{0}, second{1};
  auto const found = search.search(spec, first, 8, {}, confirm, {});
  REQUIRE(found.size() == 2);
  CHECK(found[0] == doctest::Approx(3).epsilon(1e-3));
  CHECK(found[1] == doctest::Approx(-5).epsilon(1e-3));
  CHECK(search.search(spec, second, 8, {}, confirm, {}).empty());
  CHECK(search.search(spec, {}, 8, {}, confirm, {}).empty());
  CHECK(search.search(spec, first, 8, {}, confirm, deadline(0)).empty());
}

TEST_CASE("reported bounds enclose what the network does") {
  verifier_type v(numbers());
  auto const spec = specified({{{{-1, 0}, {-1, 1}}, {above(0, 2.5)}}, {{{0, 1}, {-1, 1}}, {above(0, 2.5)}}});
  for (auto const method : {bound_method::crown, bound_method::interval}) {
    auto const report = v.bounds(spec, with(method), 2);
    REQUIRE(report.nodes.size() == 2);
    CHECK(report.nodes[0].node == 1);
    CHECK(report.nodes[1].node == 3);
    CHECK(report.seconds.size() == 2);
    CHECK(report.rows.size() == 2);
    random_engine random(1);
    for (int n = 0; n < 1000; ++n) {
      auto const values =
          evaluate<folds>(numbers(), std::vector<long double>{uniform(random, -1, 1), uniform(random, -1, 1)});
      for (auto const& one : report.nodes) {
        for (std::size_t i = 0; i < one.lower.size(); ++i) {
          CHECK((one.lower[i] <= values[one.node].data[i] && values[one.node].data[i] <= one.upper[i]));
        }
      }
    }
  }
}
