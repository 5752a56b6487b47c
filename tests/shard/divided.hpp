// SPDX-License-Identifier: Apache-2.0
// Bounds of ranks that divide neurons (TensorParallel) beside those of one rank, and whether they are sound.
#pragma once

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <mutex>
#include <vector>

#include <hull/core/error.hpp>

#include "ranks.hpp"

namespace hull::reference {

struct deviation final {
  double rows = 0, heads = 0;  // largest, relative to the width of the interval or the size of the bound
};

/// NaN if one of them is.
inline double larger(double a, double b) { return a >= b ? a : (b > a ? b : a + b); }

/// Bounds of all heads of the whole network, and of the forms.
struct whole_answer final {
  std::vector<std::vector<float>> lower{}, upper{};
  std::vector<double> rows{};
};

template <Network Net, Network Asked, class M>
whole_answer ask(question<Asked> const& asked, M& machine, hidden_bounds method, std::size_t row_bytes) {
  propagation<Net, M> all(machine, row_bytes);
  all.intersect_hidden(false);
  box_type const* view = &asked.box;
  all.run({&view, 1}, method, {.steps = 6});
  whole_answer found;
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    machine.template head_bounds<stage<Net, K>>(all.state(), found.lower.emplace_back(), found.upper.emplace_back());
  });
  std::vector<row_form> rows;
  for (auto const& form : asked.forms) rows.push_back({0, &form});
  found.rows = method == hidden_bounds::interval      ? all.interval_bounds(rows)
               : method == hidden_bounds::alpha_crown ? all.climbed_bounds(rows, {.steps = 6})
                                                      : all.lower_bounds(rows);
  CHECK(machine.memory().peak() == all.plan(1, method));
  return found;
}

/// `Here`: of the ranks; `Alone`: machine of one rank. `check_sound(found)` sees what is to be sound.
template <class Here, class Alone, Network Net, std::size_t P, class R, class Check>
void check_ranks(question<Net> const& asked, hidden_bounds method, std::size_t row_bytes, double tolerance,
                 Check&& check_sound) {
  parameters<Net> const weights(asked.p);
  Alone alone(weights);
  auto const expected = ask<Net>(asked, alone, method, row_bytes);
  std::mutex one_at_a_time;
  Loopback::run(P, [&](Loopback& ranks) {
    using part = typename Here::template network<Net, P>;
    auto const own = Here::template load<part>(asked.p, ranks);
    typename Here::template machine<part, R> machine(Here::template join<part>(own, ranks));
    auto const found = ask<part>(asked, machine, method, row_bytes);
    deviation most;
    for (std::size_t k = 0; k < expected.lower.size(); ++k) {
      if (found.lower[k].size() != expected.lower[k].size()) throw error("a stage has another size");
      for (std::size_t i = 0; i < expected.lower[k].size(); ++i) {
        double const low = expected.lower[k][i], high = expected.upper[k][i],
                     size = std::max({1e-3, std::fabs(low), std::fabs(high)});
        most.heads = larger(most.heads, std::fabs(found.lower[k][i] - low) / size);
        most.heads = larger(most.heads, std::fabs(found.upper[k][i] - high) / size);
      }
    }
    for (std::size_t r = 0; r < expected.rows.size(); ++r) {
      double const size = std::max(1e-1, std::fabs(expected.rows[r]));
      most.rows = larger(most.rows, std::fabs(found.rows[r] - expected.rows[r]) / size);
    }
    std::scoped_lock const hold(one_at_a_time);
    INFO("ranks ", P, ", rank ", ranks.rank(), ", method ", static_cast<int>(method));
    if constexpr (R::outward) check_sound(found);
    CHECK(most.heads < tolerance);
    CHECK(most.rows < tolerance);
  });
}

}  // namespace hull::reference
