// SPDX-License-Identifier: Apache-2.0
// Large batches under `Nearest` go forward as products in single precision: the intervals of every box are those that
// it has alone, up to rounding, and memory is as planned.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <vector>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

// clang-format off
struct dense final : decltype(Input<30> >> Linear<"a", 90> >> Relu >> Linear<"b", 17> >> Tanh >> Linear<"c", 3>) {};
struct planes final : decltype(Input<3, 9, 11> >> Conv<"a", 8, kernel<3, 4>, stride<2, 1>, pad<1, 0, 2, 1>> >> Relu >>
                               Conv<"b", 6, kernel<3, 3>, dilation<2, 2>, pad<2, 1, 3, 2>, groups<2>> >> Sigmoid >>
                               Conv<"c", 4, kernel<2, 2>, stride<3, 3>> >> Relu >> Flatten >> Linear<"d", 5>) {};
struct columns final : decltype(Input<2, 1, 80> >> Conv<"a", 3, kernel<1, 5>, stride<1, 2>, pad<0, 4, 0, 7>> >> Relu >>
                                Conv<"b", 5, kernel<1, 1>> >> Relu >> Flatten >> Linear<"c", 2>) {};
// clang-format on

template <Network Net, class R>
std::vector<std::vector<float>> intervals(parameters<Net> const& weights, std::vector<box_type> const& boxes,
                                          std::size_t first, std::size_t last) {
  cpu::machine<Net, R> machine(weights);
  propagation<Net, cpu::machine<Net, R>> all(machine);
  std::vector<box_type const*> views;
  for (std::size_t b = first; b < last; ++b) views.push_back(&boxes[b]);
  all.run_intervals(views);
  CHECK(machine.memory().peak() <= all.plan(views.size(), hidden_bounds::interval));
  std::vector<std::vector<float>> found(views.size());
  for (std::size_t b = 0; b < views.size(); ++b) {
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      auto const& s = all.state().stage[K];
      found[b].insert(found[b].end(), s.lower + b * s.size, s.lower + (b + 1) * s.size);
      found[b].insert(found[b].end(), s.upper + b * s.size, s.upper + (b + 1) * s.size);
    });
  }
  return found;
}

template <Network Net>
void check_batch(std::size_t seed) {
  parameter_map const p = random_parameters<Net>(seed);
  parameters<Net> const weights(p);
  random_engine random(seed);
  for (bool const points : {true, false}) {
    std::vector<box_type> boxes;
    for (std::size_t b = 0; b < 40; ++b) {
      boxes.push_back(random_box(random, graph<Net>::input_size, points ? 0.0 : b % 4 == 0 ? 0.0 : 0.1));
    }
    auto const together = intervals<Net, Nearest>(weights, boxes, 0, boxes.size());
    double worst = 0;
    std::size_t outside = 0;
    for (std::size_t b = 0; b < boxes.size(); ++b) {
      auto const alone = intervals<Net, Nearest>(weights, boxes, b, b + 1).front();
      auto const sound = intervals<Net, Outward>(weights, boxes, b, b + 1).front();
      REQUIRE(alone.size() == together[b].size());
      for (std::size_t i = 0; i < alone.size(); ++i) {
        double const size = 1 + std::fabs(static_cast<double>(alone[i]));
        worst = std::max(worst, std::fabs(static_cast<double>(alone[i]) - static_cast<double>(together[b][i])) / size);
        outside += std::fabs(static_cast<double>(sound[i]) - static_cast<double>(together[b][i])) / size > 2e-5 ? 1 : 0;
      }
    }
    CAPTURE(points);
    CHECK(worst < 1e-5);
    CHECK(outside == 0);
  }
}

}  // namespace

TEST_CASE("a batch of boxes goes forward as each box alone") {
  check_batch<dense>(1);
  check_batch<planes>(2);
  check_batch<columns>(3);
}
