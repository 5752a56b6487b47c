// SPDX-License-Identifier: Apache-2.0
// Input splitting on networks whose answer is known by hand, and its parts alone.
#include <atomic>
#include <chrono>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cpu/verifier.hpp>
#include <hull/search/input_bab.hpp>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

/// y0 = |x0| + |x1| - |x0 + x1|: 0 where signs agree, else 2 min(|x0|, |x1|), and CROWN on a large box is far below 0.
/// y1 = relu(x0) - relu(x0) = 0
struct triangle final : decltype(Input<2> >> Linear<"a", 7> >> Relu >> Linear<"b", 2>) {};
using bounding = cpu::machine<triangle, Outward>;
using attacking = cpu::machine<triangle, Nearest>;

parameter_map const& numbers() {
  static parameter_map const p{{{"a.weight", {1, 0, -1, 0, 0, 1, 0, -1, 1, 1, -1, -1, 1, 0}},
                                {"a.bias", {0, 0, 0, 0, 0, 0, 0}},
                                {"b.weight", {1, 1, 1, 1, -1, -1, 0, 1, 0, 0, 0, 0, 0, -1}},
                                {"b.bias", {0, 0}}},
                               false};
  return p;
}

box_type const square{{-1, 1}, {-1, 1}};

linear_constraint form(std::vector<term> outputs, double constant, bool strict = false) {
  return {std::move(outputs), {}, constant, strict};
}
specification specified(std::vector<disjunct> cases) { return {2, 2, std::move(cases), "test"}; }

// clang-format off
constexpr auto inputs = Input<4>;
constexpr auto xa = inputs >> Linear<"a", 1>;
constexpr auto xb = inputs >> Linear<"b", 1>;
constexpr auto xc = inputs >> Linear<"c", 1>;
constexpr auto a_sum = (xa >> Linear<"a1", 1> >> Relu) + (xa >> Linear<"a2", 1>);
constexpr auto b_sum = ((xb >> Linear<"b1", 1> >> Relu) + (xb >> Linear<"b2", 1>)) >> Linear<"b3", 1>;
constexpr auto c_sum = (xc >> Linear<"c1", 1> >> Relu) + (xc >> Linear<"c2", 1>);
constexpr auto wide = inputs >> Linear<"w1", 32> >> Relu >> Linear<"w2", 32> >> Relu >> Linear<"w3", 1> >> Linear<"w4", 2>;
/// Rows without terms over the inputs take more room than rows with them: places are given first fit.
struct sums final
    : decltype(wide + ((((a_sum + b_sum) >> Linear<"d", 1> >> Relu) + c_sum) >> Linear<"e", 2>)) {};
// clang-format on
constexpr std::size_t last_stage = stage_count<sums> - 1;
static_assert(plan_coefficients<sums>(last_stage, true, false).width >
              plan_coefficients<sums>(last_stage, true, true).width);

bool holds(specification const& spec, std::span<double const> x) {
  std::vector<long double> const at(x.begin(), x.end());
  auto const y = evaluate<triangle>(numbers(), at).back().data;
  for (auto const& d : spec.disjuncts) {
    bool all = true;
    for (std::size_t i = 0; i < x.size(); ++i) all = all && x[i] >= d.box[i].lower && x[i] <= d.box[i].upper;
    for (auto const& c : d.constraints) all = all && (c.strict ? value_of(c, y, at) < 0 : value_of(c, y, at) <= 0);
    if (all) return true;
  }
  return false;
}

/// The search alone, without the steps that come before it.
verify_report search(specification const& spec, verify_options const& options = {}, deadline const& end = {},
                     bool believe = true) {
  parameters<triangle> const weights(numbers());
  problem const asked(spec, 2, 2);
  verify_report report;
  report.margins.assign(asked.rows.size(), -std::numeric_limits<double>::infinity());
  std::vector<std::size_t> open(asked.disjuncts());
  for (std::size_t d = 0; d < open.size(); ++d) open[d] = d;
  confirm_function const confirm = [&](std::span<double const> x) { return believe && holds(spec, x); };
  try {
    bool const ran =
        search_inputs<triangle, bounding, attacking>(weights, asked, spec, open, options, confirm, end, report);
    CHECK(ran);
  } catch (deadline_passed const&) {
    report.answer = verdict::timeout;
  }
  CHECK(report.peak_bytes <= report.planned_bytes);
  if (report.answer == verdict::sat) CHECK(holds(spec, report.counterexample));
  return report;
}

/// y0 <= -gap
specification below(double gap, box_type const& box = square) { return specified({{box, {form({{0, 1}}, gap)}}}); }

}  // namespace

TEST_CASE("a property that one pass of CROWN does not prove") {
  auto const report = search(below(0.01));
  CHECK(report.answer == verdict::unsat);
  CHECK(report.domains > 3);
  CHECK(report.domains < 1000);
  CHECK(report.search_seconds > 0);
  REQUIRE(report.margins.size() == 1);
  CHECK(report.margins[0] > 0);      // of the form y0 + 0.01
  CHECK(report.margins[0] <= 0.01);  // which is 0.01 where signs agree
}

TEST_CASE("many disjuncts, some of them points in one coordinate") {
  std::vector<disjunct> cases;
  for (int i = -8; i < 8; ++i) {
    for (int k = -8; k < 8; ++k) {
      double const x = i / 8.0, y = k / 8.0;
      cases.push_back({{{x, x + 0.125}, {y, k % 2 == 0 ? y : y + 0.125}}, {form({{0, 1}}, 1e-3)}});
    }
  }
  auto const report = search(specified(cases));
  CHECK(report.answer == verdict::unsat);
  CHECK(report.domains >= cases.size());
  for (double const margin : report.margins) CHECK(margin > 0);
  // y0 = 2 min(|x0|, |x1|) where signs differ: at most 2 at a corner
  cases[37].constraints = {form({{0, -1}}, 0)};
  CHECK(search(specified(cases)).answer == verdict::sat);
}

TEST_CASE("a conjunction that only smaller boxes refute") {
  // 0.9 <= y0 <= 0.8: each constraint has solutions
  CHECK(search(specified({{square, {form({{0, 1}}, -0.8), form({{0, -1}}, 0.9)}}})).answer == verdict::unsat);
}

TEST_CASE("counterexamples: in a corner, and in a small part of the box") {
  CHECK(search(specified({{square, {form({{0, -1}}, 2)}}})).answer == verdict::sat);  // y0 >= 2: two corners
  // 1.5 <= y0 <= 1.5001: a thin band
  CHECK(search(specified({{square, {form({{0, -1}}, 1.5), form({{0, 1}}, -1.5001)}}})).answer == verdict::sat);
}

TEST_CASE("what holds with equality is unknown, never proved") {
  // few floats: y0 < 2, but y0 >= 2 here
  double const step = 0x1p-23;
  box_type const tiny{{1, 1 + 4 * step}, {-1 - 4 * step, -1}};
  CHECK(search(specified({{tiny, {form({{0, 1}}, -2, true)}}})).answer != verdict::sat);
  // a box of which nothing is left to cut
  auto const point = specified({{{{0.1, 0.1}, {0.3, 0.3}}, {form({{0, 1}}, 0, true)}}});
  CHECK(search(point).answer == verdict::unknown);
  // and a large one: float by float, but not for ever
  auto const large = search(specified({{square, {form({{0, 1}}, 0, true)}}}));
  CHECK(large.answer == verdict::unknown);
  CHECK(large.counterexample.empty());
}

TEST_CASE("points that are not believed end the search") {
  auto const report = search(specified({{square, {form({{0, -1}}, 1)}}}), {}, {}, false);
  CHECK(report.answer == verdict::unknown);
  CHECK(report.domains < 100000);
  CHECK(search(specified({{square, {}}}), {}, {}, false).answer == verdict::unknown);
}

TEST_CASE("deadline and interrupt") {
  auto const spec = specified({{square, {form({{0, 1}}, 0, true)}}});
  CHECK(search(spec, {}, deadline(0)).answer == verdict::timeout);
  std::atomic<bool> flag = true;
  deadline end;
  end.watch(&flag);
  CHECK(search(spec, {}, end).answer == verdict::timeout);
  flag = false;
  auto const start = std::chrono::steady_clock::now();
  CHECK(search(below(1e-5), {}, deadline(0.05)).domains > 0);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));

  cpu::verifier<triangle> all(numbers());
  verify_options options;
  flag = true;
  options.interrupt = &flag;
  auto const confirm = [&](std::span<double const> x) { return holds(spec, x); };
  CHECK(all.verify(spec, options, confirm).answer == verdict::timeout);
}

TEST_CASE("the same boxes each time, whatever the threads") {
  auto const first = search(below(2e-3));
  CHECK(first.answer == verdict::unsat);
  for (int run = 0; run < 2; ++run) CHECK(search(below(2e-3)).domains == first.domains);
#ifdef _OPENMP
  int const threads = omp_get_max_threads();
  for (int const n : {1, 3, 4}) {
    omp_set_num_threads(n);
    CHECK(search(below(2e-3)).domains == first.domains);
    CHECK(search(below(2e-3)).margins == first.margins);
  }
  omp_set_num_threads(threads);
#endif
}

TEST_CASE("a small memory budget costs boxes, not verdicts") {
  verify_options options;
  for (std::size_t const budget : {std::size_t{1}, std::size_t{20000}, std::size_t{1} << 20}) {
    options.memory_budget = budget;
    CHECK(search(below(2e-3), options).answer == verdict::unsat);
    CHECK(search(specified({{square, {form({{0, -1}}, 2)}}}), options).answer == verdict::sat);
  }
}

TEST_CASE("progress") {
  verify_options options;
  std::size_t told = 0, domains = 0;
  options.progress = [&](search_progress const& now) {
    ++told;
    CHECK(now.domains >= domains);
    domains = now.domains;
  };
  (void)search(below(1e-6), options, deadline(1.5));
  CHECK(told <= 4);
}

TEST_CASE("the verifier comes to input splitting by itself") {
  cpu::verifier<triangle> all(numbers());
  auto const spec = below(0.01);
  auto const confirm = [&](std::span<double const> x) { return holds(spec, x); };
  for (auto const method : {bound_method::automatic, bound_method::branch}) {
    verify_options options;
    options.method = method;
    CHECK(all.verify(spec, options, confirm).answer == verdict::unsat);
  }
  verify_options options;
  options.method = bound_method::crown;
  CHECK(all.verify(spec, options, confirm).answer == verdict::unknown);
}

TEST_CASE("cuts: floats strictly inside, or none") {
  float const infinity = std::numeric_limits<float>::infinity();
  float const next = std::nextafter(1.0f, infinity), second = std::nextafter(next, infinity);
  CHECK(detail::middle_float({1, second}) == next);
  CHECK(std::isnan(detail::middle_float({1, next})));
  CHECK(std::isnan(detail::middle_float({1, 1})));
  CHECK(std::isnan(detail::middle_float({1.00000001, 1.00000002})));  // one float on either side
  CHECK(detail::middle_float({-1, 1}) == 0);
  random_engine random(3);
  for (int n = 0; n < 20000; ++n) {
    double const a = uniform(random, -2, 2) * std::pow(2.0, -(n % 140)),
                 b = a + uniform(random, 0, 1) * std::pow(2.0, -(n % 170));
    double const cut = detail::middle_float({a, b});
    if (std::isnan(cut)) continue;
    CHECK((a < cut && cut < b));
    CHECK(static_cast<double>(static_cast<float>(cut)) == cut);
    // both halves are smaller as floats
    CHECK(up::from_double(cut) < up::from_double(b));
    CHECK(down::from_double(cut) > down::from_double(a));
  }
}

TEST_CASE("the coordinate to cut") {
  std::vector<input_range> const ranges{{0, 1}, {0, 1}, {0, 4}};
  CHECK(choose_cut(ranges, std::vector<float>{1, 5, 0}).coordinate == 1);
  CHECK(choose_cut(ranges, std::vector<float>{0, 0, 0}).coordinate == 2);
  CHECK(choose_cut(ranges, std::vector<float>{1, -1, 1}).coordinate == 2);
  CHECK(choose_cut(ranges, std::vector<float>{1, -1, 1}).at == 2);
  float const nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(choose_cut(ranges, std::vector<float>{nan, nan, nan}).coordinate == 2);
  std::vector<input_range> const points{{1, 1}, {2, 2}};
  CHECK_FALSE(choose_cut(points, std::vector<float>{1, 1}).possible);
}

TEST_CASE("shared bounds are counted") {
  known_bounds pool(4, 2 * 4 * sizeof(float));
  auto const a = pool.take(), b = pool.take();
  CHECK(a != b);
  CHECK(pool.take() == known_bounds::none);
  CHECK(pool.at(known_bounds::none) == nullptr);
  CHECK(pool.at(a) != pool.at(b));
  pool.share(a);
  pool.drop(a);
  CHECK(pool.take() == known_bounds::none);
  pool.drop(a);
  CHECK(pool.take() == a);
}

TEST_CASE("a byte budget of nothing leaves room for rows of every kind") {
  parameters<sums> const weights(random_parameters<sums>(1));
  cpu::machine<sums, Outward> machine(weights);
  propagation<sums, cpu::machine<sums, Outward>> bounds(machine, 0);
  box_type const box(4, {-1, 1});
  box_view const view = &box;
  bounds.run({&view, 1}, hidden_bounds::crown);
  linear_constraint const plain = form({{0, 1}}, 0), mixed{{{1, 1}}, {{2, 1}}, 0, false};
  std::vector<row_form> const forms(40, row_form{0, &plain}), others(40, row_form{0, &mixed});
  CHECK(bounds.lower_bounds(forms).size() == 40);
  CHECK(bounds.lower_bounds(others).size() == 40);
}
