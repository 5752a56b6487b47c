// SPDX-License-Identifier: Apache-2.0
// TensorParallel on a GPU that ranks share: bounds near those of one rank, and sound.
#include <doctest/doctest.h>

#include <hull/backend/cuda/backend.cuh>

#include "divided.hpp"
#include "points.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

using here = on<hull::cuda::backend, TensorParallel, Loopback>;

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
        broken += head.upper[i] < found.lower[k][i] || head.lower[i] > found.upper[k][i] ? 1 : 0;
      }
    }
  }
  CHECK(broken == 0);
}

template <Network Net, class R>
void check_net(std::size_t seed) {
  using alone = hull::cuda::machine<Net, R>;
  question<Net> const asked(seed);
  auto const sound = [&](whole_answer const& found) { check_sound(asked, found); };
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    for (std::size_t const row_bytes : {std::size_t{1} << 22, std::size_t{0}}) {
      double const tolerance = method == hidden_bounds::alpha_crown || R::outward ? 2e-4 : 1e-5;
      check_ranks<here, alone, Net, 2, R>(asked, method, row_bytes, tolerance, sound);
#ifndef HULL_CUDA_QUICK
      check_ranks<here, alone, Net, 3, R>(asked, method, row_bytes, tolerance, sound);
#endif
    }
  }
}

}  // namespace

// Both compilers of nvcc see the same shapes.
static_assert(stage<divided<wide, 2>, 1>::size == 38 && stage<divided<wide, 3>, 3>::size == 13);
static_assert(stage<divided<planes, 2>, 1>::size == 3 * 36);

TEST_CASE("pairs of matrices on a GPU") { check_net<wide, Outward>(21); }
#ifndef HULL_CUDA_QUICK
TEST_CASE("pairs of matrices on a GPU, rounding ignored") { check_net<wide, Nearest>(21); }
TEST_CASE("pairs of convolutions on a GPU") { check_net<planes, Outward>(22); }
TEST_CASE("a pair beside a trunk that others read, on a GPU") { check_net<residual, Nearest>(23); }
#endif
