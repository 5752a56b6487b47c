// SPDX-License-Identifier: Apache-2.0
// Optimised rows: their gradients are right, their bounds hold, beat CROWN and do not depend on the byte budget.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct deep final : decltype(Input<7> >> Linear<"a", 20> >> Relu >> Linear<"b", 20> >> Relu >> Linear<"c", 20> >>
                             Relu >> Linear<"d", 3>) {};

// (version 14 takes these arrows for comparisons)
// clang-format off
// a kink behind a scaling and before a change of sign: its free line is the upper one
constexpr auto trunk = Input<6> >> Linear<"a", 12> >> Mul<"gain"> >> Relu >> Neg;
struct joined final : decltype(((trunk >> Linear<"b", 12> >> LeakyRelu<"slope">) + trunk) >> Linear<"c", 10> >> Tanh >>
                               Linear<"d", 8> >> Relu >> Linear<"e", 3>) {};
// clang-format on

struct planes final
    : decltype(Input<2, 6, 6> >> Conv<"a", 4, kernel<3, 3>, pad<1, 1, 1, 1>> >> BatchNormalization<"n"> >> Relu >>
               Conv<"b", 4, kernel<3, 3>, stride<2, 2>> >> Relu >> MaxPool<kernel<2, 2>, stride<1, 1>> >> Flatten >>
               Linear<"c", 6> >> Relu >> Linear<"d", 3>) {};

template <Network Net, class R = Outward>
struct climbing final {
  using machine = cpu::machine<Net, R>;
  parameters<Net> weights;
  machine on;
  propagation<Net, machine> all;

  climbing(parameter_map const& p, box_type const& box, hidden_bounds method,
           std::size_t row_bytes = std::size_t{1} << 22)
      : weights(p), on(weights), all(on, row_bytes) {
    box_type const* const one = &box;
    all.run({&one, 1}, method);
  }
};

std::vector<row_form> rows_of(std::vector<linear_constraint> const& forms) {
  std::vector<row_form> rows;
  for (auto const& form : forms) rows.push_back({0, &form});
  return rows;
}

/// Derivatives against differences of evaluated bounds. A bound is piecewise linear in each parameter: a few entries
/// sit on a corner.
template <Network Net>
void check_gradients(std::size_t seed) {
  random_engine random(seed);
  auto const p = random_parameters<Net>(seed);
  auto const box = random_box(random, graph<Net>::input_size, 0.8);
  auto const forms = random_forms(random, graph<Net>::input_size, graph<Net>::output_size, true);
  climbing<Net> run(p, box, hidden_bounds::alpha_crown);
  auto& climber = run.all.climber();
  std::size_t const width = climber.width();
  REQUIRE(width > 0);
  std::vector<float> alpha(width), by_alpha(width), beta(3), by_beta(3);
  for (float& a : alpha) a = static_cast<float>(uniform(random, 0.2, 0.8));
  for (float& b : beta) b = static_cast<float>(uniform(random, 0.05, 0.3));
  std::vector<split> splits;
  for (std::size_t q = 0; q < beta.size(); ++q) {
    splits.push_back({static_cast<index_t>((q * width) / 3), random() % 2 == 0 ? 1.0f : -1.0f});
  }
  std::size_t entries = 0, wrong = 0;
  for (auto const& form : forms) {
    form_task task{&form, splits, alpha.data(), beta.data()};
    climber.gradient(task, by_alpha, by_beta);
    double largest = 1e-4;
    for (float const g : by_alpha) largest = std::max(largest, std::fabs(static_cast<double>(g)));
    auto const difference = [&](float& x) {
      float const kept = x, step = 4e-3f;
      double bounds[2];
      for (int side = 0; side < 2; ++side) {
        x = side == 0 ? kept - step : kept + step;
        task.bound = -std::numeric_limits<double>::infinity();
        climber.climb({&task, 1}, {.steps = 0}, [](auto const&) {});
        bounds[side] = task.bound;
      }
      double const run_length = static_cast<double>(kept + step) - static_cast<double>(kept - step);
      x = kept;
      return (bounds[1] - bounds[0]) / run_length;
    };
    auto const compare = [&](float ours, double theirs) {
      ++entries;
      wrong += std::fabs(ours - theirs) > 2e-3 * largest + 1e-2 * std::fabs(theirs);
    };
    for (std::size_t i = 0; i < width; ++i) compare(by_alpha[i], difference(alpha[i]));
    for (std::size_t q = 0; q < beta.size(); ++q) compare(by_beta[q], difference(beta[q]));
  }
  INFO("wrong: ", wrong, " of ", entries);
  CHECK(wrong * 20 <= entries);
}

/// Bounds of forms and heads hold at sampled inputs, and beat CROWN's rows on the same hidden bounds.
template <Network Net>
void check_climbed(std::size_t seed, std::size_t samples, double radius) {
  random_engine random(seed);
  auto const p = random_parameters<Net>(seed);
  auto const box = random_box(random, graph<Net>::input_size, radius);
  auto const forms = random_forms(random, graph<Net>::input_size, graph<Net>::output_size, true);
  bounded<Net> crown(p, {box}, hidden_bounds::crown);
  bounded<Net> climbed(p, {box}, hidden_bounds::alpha_crown);
  auto const rows = rows_of(forms);
  auto const plain = climbed.all().lower_bounds(rows), best = climbed.all().climbed_bounds(rows);
  auto const signs = climbed.signs(rows);
  breaches broken;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    double const slack = 1e-6 * (1 + std::fabs(plain[r]));  // means of lines cost a little more rounding
    broken.expect(best[r] >= plain[r] - slack, "optimised form below CROWN's, row", r, best[r], plain[r]);
  }
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    if (K > 2) return;  // behind, other hidden bounds may choose other slopes
    for (std::size_t i = 0; i < stage<Net, K>::size; ++i) {
      auto const &a = climbed.stage(K), &c = crown.stage(K);
      broken.expect(a.lower[i] >= c.lower[i] && a.upper[i] <= c.upper[i], "head wider than CROWN's, stage", K,
                    a.lower[i], c.lower[i]);
    }
  });
  for (std::size_t n = 0; n < samples; ++n) {
    auto const x = sample(random, box, signs, n);
    auto const values = evaluate<Net>(p, x);
    check_stages(climbed, 0, values, broken);
    for (std::size_t f = 0; f < forms.size(); ++f) {
      long double const value = value_of(forms[f], values.back().data, x);
      broken.expect(!(value < best[f]), "form below its bound, row", f, value, best[f]);
    }
  }
  INFO(broken.first);
  CHECK(broken.count == 0);
  CHECK(climbed.machine().memory().peak() == climbed.all().plan(1, hidden_bounds::alpha_crown));
}

}  // namespace

TEST_CASE("gradients agree with differences") {
  check_gradients<deep>(1);
  check_gradients<deep>(2);
  check_gradients<joined>(3);
  check_gradients<planes>(4);
}

TEST_CASE("optimised bounds hold and are not looser than CROWN's") {
  for (double const radius : {0.05, 0.3, 1.0}) {
    check_climbed<deep>(5, 4000, radius);
    check_climbed<joined>(6, 4000, radius);
  }
  check_climbed<planes>(7, 2000, 0.3);
}

TEST_CASE("no byte budget changes a bit") {
  random_engine random(8);
  auto const p = random_parameters<joined>(8);
  auto const box = random_box(random, 6, 0.5);
  auto const forms = random_forms(random, 6, 3, true);
  climbing<joined> wide(p, box, hidden_bounds::alpha_crown), narrow(p, box, hidden_bounds::alpha_crown, 1);
  auto const rows = rows_of(forms);
  auto const a = wide.all.climbed_bounds(rows), b = narrow.all.climbed_bounds(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) CHECK(std::memcmp(&a[r], &b[r], sizeof(double)) == 0);
  for_each_stage<1, stage_count<joined>>([&]<std::size_t K> {
    auto const &s = wide.all.state().stage[K], &t = narrow.all.state().stage[K];
    CHECK(std::memcmp(s.lower, t.lower, s.size * sizeof(float)) == 0);
    CHECK(std::memcmp(s.upper, t.upper, s.size * sizeof(float)) == 0);
  });
  CHECK(narrow.on.memory().peak() == narrow.all.plan(1, hidden_bounds::alpha_crown));
  CHECK(narrow.on.memory().peak() < wide.on.memory().peak());
}

TEST_CASE("more steps never loosen a row, and a row that reached its goal ends") {
  random_engine random(9);
  auto const p = random_parameters<deep>(9);
  auto const box = random_box(random, 7, 0.5);
  auto const forms = random_forms(random, 7, 3, false);
  climbing<deep> run(p, box, hidden_bounds::alpha_crown);
  auto const rows = rows_of(forms);
  auto previous = run.all.climbed_bounds(rows, {.steps = 0});
  for (std::size_t const steps : {5u, 20u, 80u}) {
    auto const next = run.all.climbed_bounds(rows, {.steps = steps, .patience = 100});
    for (std::size_t r = 0; r < rows.size(); ++r) CHECK(next[r] >= previous[r]);
    previous = next;
  }
  std::vector<float> alpha(run.all.climber().width());
  run.all.climber().start(alpha.data());
  form_task task{&forms[0], {}, alpha.data(), nullptr, -1e9};
  std::size_t ended = 0;
  run.all.climber().climb({&task, 1}, {}, [&](auto const& over) {
    ended += over.size();
    CHECK(over[0].coefficients(0) != nullptr);
  });
  CHECK(ended == 1);
  CHECK(task.bound <= run.all.climbed_bounds({&rows[0], 1}, {.steps = 0})[0]);
}

TEST_CASE("rows end at their goal, without progress, and after the last step") {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  row_progress row{.goal = 1};
  CHECK(row.note(-2, 3, false));
  CHECK(row.note(0, 3, false));
  CHECK_FALSE(row.note(0, 3, false));
  CHECK_FALSE(row.note(nan, 3, false));
  CHECK(row.done == 0);
  CHECK(row.note(0.5, 3, false));
  CHECK(row.since == 0);
  CHECK(row.note(2, 3, false));
  CHECK(row.done == 1);
  CHECK(row.best == 2);

  row_progress stuck{};
  CHECK(stuck.note(-1, 2, false));
  CHECK_FALSE(stuck.note(-3, 2, false));
  CHECK(stuck.done == 0);
  CHECK_FALSE(stuck.note(-infinity, 2, false));
  CHECK(stuck.done == 1);
  CHECK(stuck.best == -1);

  row_progress lost{.goal = 0};  // nothing was ever found, and an overflow proves nothing
  CHECK_FALSE(lost.note(nan, 9, false));
  CHECK(lost.note(infinity, 9, false));
  CHECK(lost.done == 0);
  CHECK_FALSE(lost.note(1, 9, true));
  CHECK(lost.done == 1);
}

TEST_CASE("packed parameters stay in [0, 1], and both ends are exact") {
  CHECK(unpack_alpha(pack_alpha(0)) == 0);
  CHECK(unpack_alpha(pack_alpha(1)) == 1);
  std::size_t far = 0;
  for (std::size_t i = 0; i <= 100000; ++i) {
    float const alpha = static_cast<float>(i) / 100000, back = unpack_alpha(pack_alpha(alpha));
    far += !(back >= 0 && back <= 1 && std::fabs(back - alpha) <= 0.51f / 65535);
  }
  CHECK(far == 0);
}
