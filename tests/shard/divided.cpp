// SPDX-License-Identifier: Apache-2.0
// TensorParallel: bounds near those of one rank, and sound; hidden neurons of divided layers included.
#include "divided.hpp"

#include <doctest/doctest.h>

using namespace hull;
using namespace hull::reference;

namespace {

using here = on<cpu::backend, TensorParallel, Loopback>;

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
  auto const sound = [&](whole_answer const& found) { check_sound(asked, found); };
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    for (std::size_t const row_bytes : {std::size_t{1} << 22, std::size_t{0}}) {
      // `Outward` counts the roundings of additions over ranks, too
      double const tolerance = method == hidden_bounds::alpha_crown || R::outward ? 2e-4 : 1e-5;
      check_ranks<here, cpu::machine<Net, R>, Net, 2, R>(asked, method, row_bytes, tolerance, sound);
      check_ranks<here, cpu::machine<Net, R>, Net, 3, R>(asked, method, row_bytes, tolerance, sound);
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
