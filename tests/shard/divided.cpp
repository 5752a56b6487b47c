// SPDX-License-Identifier: Apache-2.0
// TensorParallel: bounds near those of one rank, and sound; hidden neurons of divided layers included.
#include <cmath>
#include <doctest/doctest.h>
#include <mutex>

#include <hull/core/error.hpp>

#include "ranks.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

using here = on<cpu::backend, TensorParallel, Loopback>;

struct deviation final {
  double rows = 0, heads = 0;  // largest, relative to the width of the interval or the size of the bound
};

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

template <Network Net, std::size_t P, class R>
void check_ranks(question<Net> const& asked, hidden_bounds method, std::size_t row_bytes, double tolerance) {
  parameters<Net> const weights(asked.p);
  cpu::machine<Net, R> alone(weights);
  auto const expected = ask<Net>(asked, alone, method, row_bytes);
  std::mutex one_at_a_time;
  Loopback::run(P, [&](Loopback& ranks) {
    using part = here::network<Net, P>;
    auto const own = here::load<part>(asked.p, ranks);
    here::machine<part, R> machine(here::join<part>(own, ranks));
    auto const found = ask<part>(asked, machine, method, row_bytes);
    deviation most;
    for (std::size_t k = 0; k < expected.lower.size(); ++k) {
      if (found.lower[k].size() != expected.lower[k].size()) throw error("a stage has another size");
      for (std::size_t i = 0; i < expected.lower[k].size(); ++i) {
        double const low = expected.lower[k][i], high = expected.upper[k][i],
                     size = std::max({1e-3, std::fabs(low), std::fabs(high)});
        most.heads = std::max(
            {most.heads, std::fabs(found.lower[k][i] - low) / size, std::fabs(found.upper[k][i] - high) / size});
      }
    }
    for (std::size_t r = 0; r < expected.rows.size(); ++r) {
      most.rows = std::max(most.rows,
                           std::fabs(found.rows[r] - expected.rows[r]) / std::max(1e-1, std::fabs(expected.rows[r])));
    }
    std::scoped_lock const hold(one_at_a_time);
    INFO("ranks ", P, ", rank ", ranks.rank(), ", method ", static_cast<int>(method));
    if constexpr (R::outward) check_sound(asked, found);
    CHECK(most.heads < tolerance);
    CHECK(most.rows < tolerance);
  });
}

/// No input of the box leaves the bounds.
template <Network Net>
void check_sound(question<Net> const& asked, whole_answer const& found) {
  random_engine random(5);
  std::size_t broken = 0;
  for (std::size_t n = 0; n < 2000; ++n) {
    std::vector<long double> x;
    for (auto const& range : asked.box) {
      double const share = n % 3 == 0 ? uniform(random, 0, 1) : std::round(uniform(random, 0, 1));
      x.push_back(std::clamp(range.lower + share * (range.upper - range.lower), range.lower, range.upper));
    }
    auto const values = evaluate<Net>(asked.p, x);
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      auto const& head = values[S::info.pass ? graph<Net>::template inputs<S::info.head>[0] : S::info.head].data;
      for (std::size_t i = 0; i < S::size; ++i) {
        broken += head[i] < found.lower[K - 1][i] || head[i] > found.upper[K - 1][i] ? 1 : 0;
      }
    });
    for (std::size_t r = 0; r < found.rows.size(); ++r) {
      broken += value_of(asked.forms[r], values.back().data, x) < found.rows[r] ? 1 : 0;
    }
  }
  CHECK(broken == 0);
}

template <Network Net, class R>
void check_net(std::size_t seed) {
  question<Net> const asked(seed);
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    for (std::size_t const row_bytes : {std::size_t{1} << 22, std::size_t{0}}) {
      // `Outward` counts the roundings of additions over ranks, too
      double const tolerance = method == hidden_bounds::alpha_crown || R::outward ? 2e-4 : 1e-5;
      check_ranks<Net, 2, R>(asked, method, row_bytes, tolerance);
      check_ranks<Net, 3, R>(asked, method, row_bytes, tolerance);
    }
  }
}

}  // namespace

TEST_CASE("pairs of matrices") {
  check_net<wide, Outward>(21);
  check_net<wide, Nearest>(21);
}
TEST_CASE("pairs of convolutions") { check_net<planes, Outward>(22); }
TEST_CASE("a pair beside a trunk that others read") { check_net<residual, Nearest>(23); }

TEST_CASE("what is paired") {
  using w = divided<wide, 4>;
  static_assert(w::roles[1] == role::first && w::roles[2] == role::inside && w::roles[3] == role::second);
  static_assert(w::roles[5] == role::first && w::roles[7] == role::second);
  static_assert(parameters<w>::size < parameters<wide>::size / 3);
  static_assert(stage_count<w> == stage_count<wide>);
}
