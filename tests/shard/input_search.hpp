// SPDX-License-Identifier: Apache-2.0
// A small network with three inputs, properties that need many boxes, and what input splitting alone says of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/search/input_bab.hpp>

#include "ranks.hpp"

namespace hull::reference {

struct small final : decltype(Input<3> >> Linear<"a", 40> >> Relu >> Linear<"b", 30> >> Relu >> Linear<"c", 2>) {};

struct settled final {
  verdict answer = verdict::unknown;
  std::size_t domains = 0;
  std::vector<double> margins, counterexample;
  std::size_t bounded = 0;  // by this rank

  [[nodiscard]] friend bool operator==(settled const& a, settled const& b) {  // but for `bounded`
    return a.answer == b.answer && a.domains == b.domains && a.margins == b.margins &&
           a.counterexample == b.counterexample;
  }
};

struct input_question final {
  parameter_map p = random_parameters<small>(41, 1.4);
  specification spec{3, 2, {}, "test"};
  verify_options options;

  /// Both outputs are within `width` of what they are at one point, which holds around a curve. Somewhere on it X0 is
  /// what it is at that point; nowhere is y0 - y1 much less, but bounds of one constraint after the other only show
  /// that once boxes are small.
  input_question(double width, bool has_solution) {
    std::vector<long double> const x{0.3, -0.4, 0.2};
    auto const y = evaluate<small>(p, x).back().data;
    disjunct only{box_type(3, {-1, 1}), {}};
    for (double const sign : {1.0, -1.0}) {
      for (std::size_t i = 0; i < 2; ++i) {
        only.constraints.push_back({{{i, sign}}, {}, -width - sign * static_cast<double>(y[i]), false});
      }
      if (has_solution) only.constraints.push_back({{}, {{0, sign}}, -width - sign * static_cast<double>(x[0]), false});
    }
    if (!has_solution) {
      only.constraints.push_back({{{0, 1.0}, {1, -1.0}}, {}, 4 * width - static_cast<double>(y[0] - y[1]), false});
    }
    spec.disjuncts.push_back(only);
    spec.disjuncts.push_back({only.box, {{{{0, 1.0}}, {}, 26, false}}});  // has a margin
  }

  [[nodiscard]] bool holds(std::span<double const> x) const {
    std::vector<long double> const at(x.begin(), x.end());
    auto const y = evaluate<small>(p, at).back().data;
    auto const& all = spec.disjuncts[0].constraints;
    return std::all_of(all.begin(), all.end(), [&](auto const& form) { return value_of(form, y, at) <= 0; });
  }

  /// `P` where the network is divided. `end`: of this rank.
  template <Sharding S, std::size_t P = 1, Communicator C>
  [[nodiscard]] settled ask(C& ranks, confirm_function const& confirm, deadline end = {}) const {
    using here = on<cpu::backend, S, C>;
    using net = typename here::template network<small, P>;
    using bounding = typename here::template machine<net, Outward>;
    using attacking = typename here::template machine<net, Nearest>;
    auto const weights = here::template load<net>(p, ranks);
    if (ranks.size() > 1) end.agree([&](bool mine) { return ranks.any(mine ? 1U : 0U) != 0; });
    problem const asked(spec, 3, 2);
    std::vector<std::size_t> const open{0, 1};
    verify_report report;
    report.margins.assign(asked.rows.size(), -std::numeric_limits<double>::infinity());
    input_search<net, bounding, attacking> search(here::template join<net>(weights, ranks), asked, spec, open, options,
                                                  confirm, end);
    try {
      report.answer = search.run(report).value_or(verdict::unknown);
    } catch (deadline_passed const&) {
      report.answer = verdict::timeout;
    }
    return {report.answer, report.domains, report.margins, report.counterexample, search.bounded()};
  }
  template <Sharding S, std::size_t P = 1, Communicator C>
  [[nodiscard]] settled ask(C& ranks, deadline const& end = {}) const {
    return ask<S, P>(
        ranks, [this](std::span<double const> x) { return holds(x); }, end);
  }
  [[nodiscard]] settled ask_alone() const {
    Solo alone;
    return ask<Replicated>(alone);
  }
};

}  // namespace hull::reference
