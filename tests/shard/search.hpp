// SPDX-License-Identifier: Apache-2.0
// A network on which branch and bound has some work, properties near the edge of what holds, and what a search says.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <hull/backend/cpu/verifier.hpp>
#include <hull/search/verifier.hpp>
#include <hull/shard/home.hpp>

#include "ranks.hpp"

namespace hull::reference {

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
template <Network Net, class Outputs>
[[nodiscard]] specification near_edge_of(Outputs&& outputs, double share, double radius) {
  random_engine random(3);
  specification spec{graph<Net>::input_size, graph<Net>::output_size, {}, "test"};
  auto const box = random_box(random, graph<Net>::input_size, radius);
  linear_constraint form{{{0, 1.0}, {1, -1.0}}, {}, 0, false};
  double least = 1e30, most = -1e30;
  for (std::size_t n = 0; n < 4000; ++n) {
    std::vector<double> x;
    for (auto const& range : box) {
      double const at = n % 2 == 0 ? uniform(random, 0, 1) : std::round(uniform(random, 0, 1));
      x.push_back(range.lower + at * (range.upper - range.lower));
    }
    auto const y = outputs(x);
    double const value = static_cast<double>(y[0] - y[1]);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  form.constant = -(least - share * (most - least));
  spec.disjuncts.push_back({box, {form}});
  return spec;
}

template <class Engine, class Outputs>
told ask_with(Engine& engine, Outputs&& outputs, specification const& spec) {
  confirm_function const confirm = [&](std::span<double const> x) {
    std::vector<long double> const at(x.begin(), x.end());
    return value_of(spec.disjuncts[0].constraints[0], outputs({x.begin(), x.end()}), at) <= 0;
  };
  verify_options options;
  options.method = bound_method::branch;
  options.timeout = 900;  // a sanitizer takes its time
  auto const report = engine.verify(spec, options, confirm);
  told found{report.answer, report.domains, 0, report.margins};
  for (auto const& one : report.ranks) found.search = std::max(found.search, one.search);
  return found;
}

/// Outputs at a point, as tests that g++ compiles get them.
template <Network Net>
struct exact_outputs final {
  parameter_map const* p;
  [[nodiscard]] std::vector<long double> operator()(std::vector<double> const& x) const {
    return evaluate<Net>(*p, std::vector<long double>(x.begin(), x.end())).back().data;
  }
};

template <Network Net = deep>
[[nodiscard]] specification near_edge(parameter_map const& p, double share, double radius = 0.3) {
  return near_edge_of<Net>(exact_outputs<Net>{&p}, share, radius);
}
template <Network Net = deep, class Engine>
told ask(Engine& engine, parameter_map const& p, specification const& spec) {
  return ask_with(engine, exact_outputs<Net>{&p}, spec);
}

}  // namespace hull::reference
