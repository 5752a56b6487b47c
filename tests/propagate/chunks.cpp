// SPDX-License-Identifier: Apache-2.0
// Results do not change by a bit with the size of chunks or the number of threads, and memory stays within the plan.
#include <cstring>
#include <doctest/doctest.h>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

// clang-format off
constexpr auto stem = Input<2, 6, 6> >> Conv<"a", 20, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
// clang-format on
struct net final : decltype((stem + (stem >> Conv<"b", 20, kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>> >> Tanh)) >>
                            MaxPool<kernel<2, 2>, stride<2, 2>> >> Flatten >> Linear<"c", 150> >> Relu >>
                            Linear<"d", 70> >> Relu >> Linear<"e", 5>) {};

using machine_type = cpu::machine<net, Outward>;

/// All that a propagation tells: every interval and every bound of the forms.
struct answer final {
  std::vector<float> intervals;
  std::vector<double> crown, interval;
  std::size_t planned = 0, peak = 0;

  friend bool operator==(answer const& a, answer const& b) {  // to the bit
    auto const same = [](auto const& x, auto const& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0;
    };
    return same(a.intervals, b.intervals) && same(a.crown, b.crown) && same(a.interval, b.interval);
  }
};

struct setting final {
  parameter_map p = random_parameters<net>(1);
  parameters<net> weights{p};
  std::vector<box_type> boxes;
  std::vector<linear_constraint> forms;

  setting() {
    random_engine random(2);
    for (double const radius : {0.02, 0.3, 0.0, 0.1}) boxes.push_back(random_box(random, 72, radius));
    for (int i = 0; i < 5; ++i) {
      for (auto& form : random_forms(random, 72, 5, true)) forms.push_back(form);
    }
  }

  /// One batch of the boxes [first, last).
  [[nodiscard]] answer run(std::size_t first, std::size_t last, std::size_t row_bytes) const {
    machine_type machine(weights);
    propagation<net, machine_type> all(machine, row_bytes);
    std::vector<box_type const*> views;
    for (std::size_t b = first; b < last; ++b) views.push_back(&boxes[b]);
    all.run(views, hidden_bounds::crown);
    answer found;
    for (auto const& s : all.state().stage) {
      found.intervals.insert(found.intervals.end(), s.lower, s.lower + views.size() * s.size);
      found.intervals.insert(found.intervals.end(), s.upper, s.upper + views.size() * s.size);
    }
    auto const rows = bounded<net>::rows(forms, views.size());
    found.crown = all.lower_bounds(rows);
    found.interval = all.interval_bounds(rows);
    found.planned = all.plan(views.size());
    found.peak = machine.memory().peak();
    return found;
  }
};

constexpr std::size_t large = std::size_t{64} << 20;

}  // namespace

TEST_CASE("chunks of every size") {
  setting const s;
  auto const whole = s.run(0, 4, large);
  CHECK(whole.peak == whole.planned);
  for (std::size_t const row_bytes : {0u, 1u, 100000u, 300001u, 1000000u, 3000000u}) {
    auto const part = s.run(0, 4, row_bytes);
    CHECK(part == whole);
    CHECK(part.peak == part.planned);
    CHECK(part.planned <= whole.planned);
  }
}

TEST_CASE("the plan is a constant: the state, and rows as far as the budget goes") {
  using sizes = memory_of<net, machine_type>;
  machine_type machine(setting{}.weights);
  for (std::size_t const budget : {std::size_t{0}, std::size_t{1} << 20, large}) {
    propagation<net, machine_type> const all(machine, budget);
    for (std::size_t const boxes : {1u, 4u, 100u}) {
      CHECK(all.plan(boxes) <=
            std::max(sizes::state(boxes) + budget, propagation<net, machine_type>(machine, 0).plan(boxes)));
      CHECK(all.plan(boxes) == sizes::total({.boxes = boxes, .row_bytes = budget, .threads = machine_type::threads()}));
    }
  }
  static_assert(sizes::total({.boxes = 2}) > sizes::total({.boxes = 1}));
  static_assert(sizes::total({.method = hidden_bounds::alpha_crown}) > sizes::total({}));
  static_assert(sizes::region({.row_bytes = 1 << 22, .ranks = 2}) * 2 <= (1 << 22) + 64);
}

#ifdef _OPENMP
TEST_CASE("one thread and two") {
  setting const s;
  int const before = omp_get_max_threads();
  omp_set_num_threads(1);
  auto const one = s.run(0, 4, 1000000);
  for (int const threads : {2, 3}) {
    omp_set_num_threads(threads);
    auto const several = s.run(0, 4, 1000000);
    CHECK(several == one);
    CHECK(several.peak == several.planned);
  }
  omp_set_num_threads(before);
}
#endif

// Live columns are those of any box of the batch, so a batch may add zeros to sums; it may not change a bound by more
// than a rounding, and a batch of one box is the box alone.
TEST_CASE("a batch is its boxes") {
  setting const s;
  auto const together = s.run(0, 4, large);
  for (std::size_t b = 0; b < 4; ++b) {
    auto const alone = s.run(b, b + 1, large);
    CHECK(alone == s.run(b, b + 1, 0));
    for (std::size_t f = 0; f < s.forms.size(); ++f) {
      CHECK(alone.crown[f] == doctest::Approx(together.crown[b * s.forms.size() + f]).epsilon(1e-5));
      CHECK(alone.interval[f] == doctest::Approx(together.interval[b * s.forms.size() + f]).epsilon(1e-5));
    }
  }
}

TEST_CASE("a machine is used again with more and with fewer boxes") {
  setting const s;
  machine_type machine(s.weights);
  auto const expected = s.run(0, 1, large).crown;
  for (std::size_t const boxes : {1u, 4u, 1u}) {
    propagation<net, machine_type> all(machine, large);
    std::vector<box_type const*> views;
    for (std::size_t b = 0; b < boxes; ++b) views.push_back(&s.boxes[b]);
    all.run(views, hidden_bounds::crown);
    auto const found = all.lower_bounds(bounded<net>::rows(s.forms, 1));
    if (boxes == 1) CHECK(found == expected);
    CHECK(machine.memory().peak() == all.plan(boxes));
  }
}

TEST_CASE("the coefficients of stages that are live together do not overlap") {
  for (std::size_t start = 1; start < stage_count<net>; ++start) {
    for (bool const at_output : {false, true}) {
      auto const plan = plan_coefficients<net>(start, at_output, true);
      auto const& table = stage_table_of<net>;
      // stage k is live from its writer (or the beginning) down to k itself
      for (std::size_t a = 0; a < stage_count<net>; ++a) {
        for (std::size_t b = 0; b < a; ++b) {
          if (!plan.reached(a) || !plan.reached(b)) continue;
          bool const together = plan.writer[b] == plan.nowhere || plan.writer[b] >= a;
          bool const apart = plan.offset[a] + table.stage[a].size <= plan.offset[b] ||
                             plan.offset[b] + table.stage[b].size <= plan.offset[a];
          CHECK((apart || !together));
        }
      }
    }
  }
}

TEST_CASE("a deadline stops a run, and the machine can be used again") {
  setting const s;
  machine_type machine(s.weights);
  propagation<net, machine_type> all(machine, large);
  std::vector<box_type const*> const views{&s.boxes[0]};
  all.stop_at(deadline(0));
  CHECK_THROWS_AS(all.run(views, hidden_bounds::crown), deadline_passed);
  all.stop_at(deadline());
  all.run(views, hidden_bounds::crown);
  CHECK(all.lower_bounds(bounded<net>::rows(s.forms, 1)) == s.run(0, 1, large).crown);
}

TEST_CASE("a box of the wrong size") {
  setting const s;
  bool refused = false;
  try {
    bounded<net> const bounds(s.p, {box_type(71)}, hidden_bounds::crown);
  } catch (error const& e) {
    refused = std::string(e.what()).find("71 ranges, the network has 72 inputs") != std::string::npos;
  }
  CHECK(refused);
}
