// SPDX-License-Identifier: Apache-2.0
// Branch and bound over kinks against an oracle that shares nothing with it: subdivision of the box with intervals.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <doctest/doctest.h>

#include <hull/search/bab.hpp>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct middle final : decltype(Input<2> >> Linear<"a", 12> >> Relu >> Linear<"b", 12> >> Relu >> Linear<"z", 3>) {};
struct deep final : decltype(Input<2> >> Linear<"a", 9> >> Relu >> Linear<"b", 9> >> LeakyRelu<"s"> >> Linear<"c", 9> >>
                             Relu >> Linear<"d", 9> >> Relu >> Linear<"z", 2>) {};

/// Whether  form <= 0  has a solution in the box: +1 yes, -1 no, 0 too close to say. Forms of one disjunct hold
/// together.
template <Network Net>
class oracle final {
 public:
  oracle(parameter_map const& p, disjunct const& asked) : p_(&p), asked_(&asked) {}

  int decide() {
    std::vector<box_type> cells{asked_->box};
    for (std::size_t visited = 0; !cells.empty(); ++visited) {
      if (visited > 3000) return 0;
      box_type const cell = cells.back();
      cells.pop_back();
      std::vector<long double> middle;
      std::size_t widest = 0;
      for (std::size_t i = 0; i < cell.size(); ++i) {
        middle.push_back(0.5L * (cell[i].lower + cell[i].upper));
        if (cell[i].upper - cell[i].lower > cell[widest].upper - cell[widest].lower) widest = i;
      }
      auto const [low, high] = outputs(cell);
      auto const y = outputs(point(middle)).first;
      bool all = true, none = false;
      for (auto const& form : asked_->constraints) {
        all = all && value_of(form, y, middle) <= 0;
        long double least = form.constant;
        for (term const& t : form.outputs) least += t.coefficient * (t.coefficient > 0 ? low[t.index] : high[t.index]);
        none = none || least > 1e-9L;
      }
      if (all) return 1;
      if (none) continue;
      for (int half = 0; half < 2; ++half) {
        auto& part = cells.emplace_back(cell);
        double const cut = static_cast<double>(middle[widest]);
        (half == 0 ? part[widest].upper : part[widest].lower) = cut;
      }
    }
    return -1;
  }

 private:
  using values = std::vector<long double>;

  static box_type point(values const& x) {
    box_type one;
    for (long double const v : x) one.push_back({static_cast<double>(v), static_cast<double>(v)});
    return one;
  }

  std::pair<values, values> outputs(box_type const& cell) {
    values low, high;
    for (auto const& x : cell) {
      low.push_back(x.lower);
      high.push_back(x.upper);
    }
    graph<Net>::for_each([&]<std::size_t I> {
      using op = typename graph<Net>::template op<I>;
      if constexpr (HasWeights<op>) {
        auto const& w = p_->at(op::layer, "weight");
        auto const& b = p_->at(op::layer, "bias");
        values l(b.begin(), b.end()), h = l;
        for (std::size_t o = 0; o < b.size(); ++o) {
          for (std::size_t i = 0; i < low.size(); ++i) {
            long double const one = w[o * low.size() + i];
            l[o] += one * (one > 0 ? low[i] : high[i]);
            h[o] += one * (one > 0 ? high[i] : low[i]);
          }
        }
        low = l, high = h;
      } else if constexpr (I > 0) {
        long double slope = 0;
        if constexpr (!std::is_same_v<op, relu_t>) slope = p_->at(op::layer, "alpha")[0];
        for (values* one : {&low, &high}) {
          for (long double& v : *one) v = v < 0 ? slope * v : v;
        }
      }
    });
    return {low, high};
  }

  template <class Op>
  static constexpr bool HasWeights = [] {
    if constexpr (requires { typename Op::kind; }) return HeadOf<Op, linear_head>;
    return false;
  }();

  parameter_map const* p_;
  disjunct const* asked_;
};

template <Network Net>
struct outcome final {
  search_end end = search_end::gave_up;
  verify_report report;
};

template <Network Net>
outcome<Net> search(parameter_map const& p, specification const& spec, std::size_t budget = std::size_t{1} << 26,
                    deadline const& end = {}) {
  parameters<Net> const weights(p);
  cpu::machine<Net, Outward> machine(weights);
  problem const asked(spec, graph<Net>::input_size, graph<Net>::output_size);
  verify_options options;
  options.memory_budget = budget;
  confirm_function const confirm = [&](std::span<double const> x) {
    std::vector<long double> const at(x.begin(), x.end());
    auto const y = evaluate<Net>(p, at).back().data;
    return std::any_of(spec.disjuncts.begin(), spec.disjuncts.end(), [&](disjunct const& d) {
      return std::all_of(d.constraints.begin(), d.constraints.end(),
                         [&](auto const& c) { return value_of(c, y, at) <= 0; });
    });
  };
  outcome<Net> result;
  result.report.margins.assign(asked.rows.size(), -1e300);
  std::vector<std::size_t> open(spec.disjuncts.size());
  for (std::size_t d = 0; d < open.size(); ++d) open[d] = d;
  branch_and_bound<Net, cpu::machine<Net, Outward>, cpu::machine<Net, Nearest>> bab(machine, asked, spec, options,
                                                                                    confirm, end);
  // the verifier attacks what the root leaves open; points inside the box are the attack's business
  result.end = bab.run(open, result.report, [&](std::vector<std::size_t> const& those) {
    attack<Net, cpu::machine<Net, Nearest>> pgd(machine.member(), std::size_t{1} << 24);
    return !pgd.search(spec, those, options.restarts, options, confirm, end).empty();
  });
  return result;
}

/// Specifications near the edge: the constant of each form is put a little below or above its least sampled value.
template <Network Net>
specification near_edge(random_engine& random, parameter_map const& p, std::size_t disjuncts, std::size_t constraints) {
  constexpr std::size_t inputs = graph<Net>::input_size, outs = graph<Net>::output_size;
  specification spec{inputs, outs, {}, "test"};
  auto const box = random_box(random, inputs, 1.0, 1.5);
  std::vector<std::vector<long double>> samples;
  std::vector<std::vector<long double>> none(1, std::vector<long double>(inputs, 0));
  for (std::size_t n = 0; n < 600; ++n) {
    samples.push_back(evaluate<Net>(p, sample(random, box, {std::vector<int>(inputs, 0)}, n)).back().data);
  }
  for (std::size_t d = 0; d < disjuncts; ++d) {
    disjunct one{box, {}};
    for (std::size_t c = 0; c < constraints; ++c) {
      linear_constraint form;
      for (std::size_t o = 0; o < outs; ++o) form.outputs.push_back({o, uniform(random, -1, 1)});
      long double least = 1e30L, most = -1e30L;
      for (auto const& y : samples) {
        long double const value = value_of(form, y, none[0]);
        least = std::min(least, value);
        most = std::max(most, value);
      }
      double const share = random() % 4 == 0 ? 0.03 : -0.03;  // a quarter can be violated
      form.constant = -static_cast<double>(least + share * (most - least));
      one.constraints.push_back(form);
    }
    spec.disjuncts.push_back(one);
  }
  return spec;
}

/// Half the disjuncts have two constraints.
template <Network Net>
void check_against_oracle(std::size_t first, std::size_t count) {
  if (char const* const more = std::getenv("HULL_TEST_SEEDS")) count = std::strtoul(more, nullptr, 10);
  std::size_t told = 0, missed = 0, wrong = 0;
  for (std::size_t seed = first; seed < first + count; ++seed) {
    random_engine random(seed);
    auto const p = random_parameters<Net>(seed);
    std::size_t const constraints = seed / 3 % 2 == 1 ? 2 : 1;
    auto const spec = near_edge<Net>(random, p, 1 + seed % 3, constraints);
    int expected = -1;
    for (auto const& d : spec.disjuncts) {
      int const one = oracle<Net>(p, d).decide();
      if (one == 1 || (one == 0 && expected != 1)) expected = one;
      if (expected == 1) break;
    }
    auto const found = search<Net>(p, spec);
    wrong += expected == 1 && found.end == search_end::refuted;
    wrong += expected == -1 && found.end == search_end::counterexample;
    told += expected != 0;
    missed += expected == -1 && found.end != search_end::refuted;
  }
  INFO("decided by the oracle: ", told, ", not proved: ", missed);
  CHECK(wrong == 0);
  CHECK(missed == 0);
  CHECK(told * 3 >= count);
}

/// A seed whose search visits many domains.
std::pair<parameter_map, specification> hard_case() {
  random_engine random(77);
  auto const p = random_parameters<middle>(77, 1.5);
  auto spec = near_edge<middle>(random, p, 2, 1);
  for (auto& d : spec.disjuncts) d.constraints[0].constant = -1e-3 + d.constraints[0].constant + 0.06;
  return {p, spec};
}

}  // namespace

TEST_CASE("verdicts agree with subdivision of the box") { check_against_oracle<middle>(101, 3); }

TEST_CASE("bounds under splits hold where the splits do, whatever the multipliers") {
  for (std::size_t seed = 1; seed <= 6; ++seed) {
    random_engine random(seed);
    auto const p = random_parameters<deep>(seed);
    auto const box = box_type{{-1.5, 1.5}, {-1.5, 1.5}};
    auto const forms = random_forms(random, 2, 2, true);
    bounded<deep> bounds(p, {box}, hidden_bounds::alpha_crown);
    auto& climber = bounds.all().climber();
    std::size_t const width = climber.width();
    REQUIRE(width > 3);
    std::vector<split> splits;
    for (std::size_t q = 0; q < 3; ++q) {
      splits.push_back(
          {static_cast<index_t>(q * width / 3 + random() % (width / 3)), random() % 2 == 0 ? 1.0f : -1.0f});
    }
    std::vector<std::vector<float>> alpha(forms.size(), std::vector<float>(width)),
        beta(forms.size(), std::vector<float>(3));
    std::vector<form_task> tasks;
    for (std::size_t f = 0; f < forms.size(); ++f) {
      for (float& a : alpha[f]) a = static_cast<float>(uniform(random, 0, 1));
      for (float& b : beta[f]) b = f % 2 == 0 ? unset_beta : static_cast<float>(uniform(random, 0, 2));
      tasks.push_back({&forms[f], splits, alpha[f].data(), beta[f].data()});
    }
    climber.climb(tasks, {.steps = seed % 2 * 20}, [](auto const&) {});
    std::size_t inside = 0, broken = 0;
    for (std::size_t n = 0; n < 4000; ++n) {
      auto const x = sample(random, box, {{0, 0}}, n);
      auto const values = evaluate<deep>(p, x);
      bool holds = true;
      for_each_stage<1, stage_count<deep>>([&]<std::size_t K> {
        auto const& f = climber.free().stage[K];
        for (split const& s : splits) {
          if (s.parameter < f.offset || s.parameter >= f.offset + f.count) continue;
          std::size_t const neuron = bounds.stage(K).live[f.column[s.parameter - f.offset]];
          holds = holds && s.sign * values[stage<deep, K>::info.head].data[neuron] >= 0;
        }
      });
      if (!holds) continue;
      ++inside;
      for (std::size_t f = 0; f < forms.size(); ++f)
        broken += value_of(forms[f], values.back().data, x) < tasks[f].bound;
    }
    INFO("seed ", seed, ", points inside ", inside);
    CHECK(broken == 0);
  }
}

TEST_CASE("a small memory budget loses no domain; the same seed visits the same domains") {
  auto const [p, spec] = hard_case();
  auto const wide = search<middle>(p, spec), again = search<middle>(p, spec), narrow = search<middle>(p, spec, 1);
  CHECK(wide.report.domains == again.report.domains);
  CHECK(wide.end == again.end);
  CHECK(wide.end == narrow.end);
  CHECK(wide.report.peak_bytes <= wide.report.planned_bytes);
}

TEST_CASE("a budget hit in mid-search forgets where rows start, and loses no domain") {
  frontier queue(1, 8, 2000);
  std::vector<float> const alpha(8, 0.5f), beta(1, 0.25f);
  candidate_list const next = no_candidates();
  for (index_t d = 0; d < 100; ++d) {
    double const bound = -1.0 - d % 7;
    queue.push(queue.store().add(queue.tree().add(split_tree::root, {d, 1}), 0, 1, 0, {&bound, 1}, next),
               domain_store::packed(alpha), beta);
  }
  CHECK(queue.short_of_memory());
  std::vector<char> seen(100, 0);
  std::size_t warm = 0, count = 0;
  while (queue.size() > 0) {
    for (index_t const slot : queue.take(7)) {
      std::vector<split> path(1);
      queue.tree().path(queue.store().node[slot], path);
      seen[path[0].parameter] = 1;
      warm += queue.store().beta(slot, 0, 0) == 0.25f;
      ++count;
      queue.store().remove(slot);
    }
  }
  CHECK(count == 100);
  CHECK(std::count(seen.begin(), seen.end(), 1) == 100);
  CHECK(warm > 0);
  CHECK(warm < 100);
}

TEST_CASE("a search whose bounds overflow ends as unknown, never as proved") {
  auto [p, spec] = hard_case();
  for (char const* const name : {"a.weight", "b.weight", "z.weight"}) {
    auto broken = p;
    for (float& w : broken.tensors.at(name)) w = std::copysign(3e38f, w);
    auto const found = search<middle>(broken, spec);
    CHECK(found.end != search_end::refuted);
  }
}

TEST_CASE("a deadline stops the search soon") {
  auto const [p, spec] = hard_case();
  auto const start = std::chrono::steady_clock::now();
  CHECK_THROWS_AS(static_cast<void>(search<middle>(p, spec, std::size_t{1} << 26, deadline(1e-4))), deadline_passed);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1);
}
