// SPDX-License-Identifier: Apache-2.0
// Verdicts with bounds from the GPU are those of the CPU, counterexamples included; memory is what was planned.
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <vector>

#include <hull/backend/cpu/verifier.hpp>
#include <hull/backend/cuda/verifier.cuh>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct mlp final : decltype(Input<12> >> Linear<"a", 40> >> Relu >> Linear<"b", 30> >> Relu >> Linear<"c", 3>) {};

/// The outputs at a point, in double.
std::vector<double> evaluate_at(parameter_map const& p, std::span<double const> x) {
  std::vector<double> values(x.begin(), x.end());
  for (char const layer : {'a', 'b', 'c'}) {
    auto const& weight = p.tensors.at(std::string(1, layer) + ".weight");
    auto const& bias = p.tensors.at(std::string(1, layer) + ".bias");
    std::vector<double> next(bias.begin(), bias.end());
    for (std::size_t o = 0; o < next.size(); ++o) {
      for (std::size_t i = 0; i < values.size(); ++i) next[o] += weight[o * values.size() + i] * values[i];
      if (layer != 'c') next[o] = std::max(next[o], 0.0);
    }
    values = next;
  }
  return values;
}

}  // namespace

TEST_CASE("verdicts of the GPU and of the CPU") {
  auto const p = random_parameters<mlp>(7);
  random_engine random(8);
  cpu::verifier<mlp> host(p);
  hull::cuda::verifier<mlp> device(p);
  for (int n = 0; n < 12; ++n) {
    auto const box = random_box(random, 12, n % 3 == 0 ? 0.02 : 0.3);
    std::vector<double> centre;
    for (auto const& range : box) centre.push_back(0.5 * (range.lower + range.upper));
    auto const y = evaluate_at(p, centre);
    double const limit = y[0] - y[1] - uniform(random, -0.2, 1.5);
    linear_constraint const unsafe{{{0, 1.0}, {1, -1.0}}, {}, -limit, false};  // y_0 - y_1 <= limit
    specification const asked{12, 3, {{box, {unsafe}}}, "test"};
    auto const confirm = [&](std::span<double const> x) {
      auto const at = evaluate_at(p, x);
      return at[0] - at[1] <= limit;
    };
    for (auto const method :
         {bound_method::interval, bound_method::crown, bound_method::alpha_crown, bound_method::automatic}) {
      CAPTURE(n);
      CAPTURE(static_cast<int>(method));
      verify_options options;
      options.method = method;
      auto const ours = device.verify(asked, options, confirm), theirs = host.verify(asked, options, confirm);
      CHECK(ours.answer == theirs.answer);
      CHECK(ours.planned_bytes == ours.peak_bytes);
      REQUIRE(ours.margins.size() == theirs.margins.size());
      for (std::size_t r = 0; r < ours.margins.size(); ++r) {
        if (method == bound_method::automatic) continue;         // where each stops depends on its last bits
        bool const same = ours.margins[r] == theirs.margins[r];  // both may be -infinity
        CHECK((same || ours.margins[r] == doctest::Approx(theirs.margins[r]).epsilon(1e-3)));
      }
    }
  }
}
