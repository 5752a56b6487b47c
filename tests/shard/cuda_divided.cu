// SPDX-License-Identifier: Apache-2.0
// TensorParallel on a GPU that ranks share: bounds near those of one rank, and sound.
#include <cmath>
#include <doctest/doctest.h>

#include <hull/backend/cuda/backend.cuh>

#include "cancelling.hpp"
#include "divided.hpp"
#include "points.hpp"
#include "support/brief.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

/// No input of the box leaves the bounds.
template <Network Net>
void check_sound(question<Net> const& asked, whole_answer const& found) {
  point_values<Net> values(asked.p);
  random_engine random(5);
  std::size_t broken = 0;
  for (std::size_t n = 0; n < 500; ++n) {
    std::vector<double> x;
    for (auto const& range : asked.box) {
      double const share = n % 3 == 0 ? uniform(random, 0, 1) : std::round(uniform(random, 0, 1));
      x.push_back(std::clamp(range.lower + share * (range.upper - range.lower), range.lower, range.upper));
    }
    auto const& seen = values.at(x);
    for (std::size_t k = 0; k < found.lower.size(); ++k) {
      auto const& head = seen.stage[k + 1];
      for (std::size_t i = 0; i < head.size; ++i) {
        broken += head.upper[i] >= found.lower[k][i] && head.lower[i] <= found.upper[k][i] ? 0 : 1;  // NaN is broken
      }
    }
    auto const& y = seen.stage.back();
    for (std::size_t r = 0; r < found.rows.size(); ++r) {
      double value = asked.forms[r].constant, doubt = 0;
      for (term const& t : asked.forms[r].outputs) {
        value += t.coefficient * y.centre[t.index];
        doubt += std::fabs(t.coefficient) * y.spread[t.index];
      }
      for (term const& t : asked.forms[r].inputs) value += t.coefficient * x[t.index];
      broken += value + doubt + 1e-9 >= found.rows[r] ? 0 : 1;
    }
  }
  CHECK(broken == 0);
}

#ifndef HULL_CUDA_QUICK
/// Wide enough for tensor cores on every rank.
struct broad final : decltype(Input<40> >> Linear<"a", 1100> >> Relu >> Linear<"b", 1060> >> Relu >> Linear<"c", 5>) {};
#endif

template <Network Net, class R>
void check_net(std::size_t seed) {
  using here = on<hull::cuda::backend, TensorParallel, Loopback>;
  using alone = hull::cuda::machine<Net, R>;
  question<Net> const asked(seed);
  auto const sound = [&](whole_answer const& found) { check_sound(asked, found); };
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    if (brief() && method == hidden_bounds::interval) continue;  // CROWN begins with it
    for (std::size_t const row_bytes : {std::size_t{1} << 22, std::size_t{0}}) {
      if (brief() && row_bytes == 0) break;
      double const tolerance = method == hidden_bounds::alpha_crown || R::outward ? 2e-4 : 1e-5;
      check_ranks<here, alone, Net, 2, R>(asked, method, row_bytes, tolerance, sound);
#ifndef HULL_CUDA_QUICK
      check_ranks<here, alone, Net, 3, R>(asked, method, row_bytes, tolerance, sound);
      if (!brief()) check_ranks<here, alone, Net, 4, R>(asked, method, row_bytes, tolerance, sound);
#endif
    }
  }
}

#ifndef HULL_CUDA_QUICK
template <class P>
void check_tensor_cores() {
  question<broad> const asked(24);
  check_ranks<on<hull::cuda::backend_with<P>, TensorParallel, Loopback>,
              hull::cuda::machine<broad, Outward, lone_member<broad>, P>, broad, 2, Outward>(
      asked, hidden_bounds::crown, std::size_t{1} << 22, 1e-2,
      [&](whole_answer const& found) { check_sound(asked, found); });
}
#endif

}  // namespace

// Both compilers of nvcc see the same shapes.
static_assert(stage<divided<wide, 2>, 1>::size == 38 && stage<divided<wide, 3>, 3>::size == 13);
static_assert(stage<divided<planes, 2>, 1>::size == 3 * 36);

TEST_CASE("what additions over ranks lose on a GPU") {
  double const bound = lower_bounds<hull::cuda::backend, one_each, 8>(
      one_each_parameters(), {{-1, 1}}, [](auto& all, auto const& rows) { return all.lower_bounds(rows); })[0];
  CHECK(bound <= -1 - 7 * 0x1p-24);
  CHECK(bound >= -1.00001);
}

TEST_CASE("pairs of matrices on a GPU") { check_net<wide, Outward>(21); }
#ifndef HULL_CUDA_QUICK
TEST_CASE("pairs of matrices on a GPU, rounding ignored") { check_net<wide, Nearest>(21); }
TEST_CASE("pairs of convolutions on a GPU") { check_net<planes, Outward>(22); }
TEST_CASE("pools and grouped convolutions beside pairs on a GPU") { check_net<pooled, Outward>(25); }
TEST_CASE("a pair beside a trunk that others read, on a GPU") {
  check_net<residual, Nearest>(23);
  check_net<residual, Outward>(23);
}
TEST_CASE("pairs of matrices on tensor cores") { check_tensor_cores<hull::cuda::Tf32x3>(); }
TEST_CASE("pairs of matrices on tensor cores, halfs") {
  if (hull::cuda::has_wgmma()) check_tensor_cores<hull::cuda::Fp16x3>();
}
#endif
