// SPDX-License-Identifier: Apache-2.0
// Numbers and layers that make rounding errors of sums large.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "support/exact_sum.hpp"
#include "support/random.hpp"

namespace hull::reference {

/// Numbers whose sum nearly cancels: pairs of almost opposite values over 40 binary orders of magnitude.
inline std::vector<float> cancelling(random_engine& random, std::size_t count) {
  std::vector<float> values;
  while (values.size() < count) {
    auto const x = static_cast<float>(std::ldexp(uniform(random, 1, 2), static_cast<int>(random() % 40) - 20));
    values.push_back(x);
    values.push_back(-x * static_cast<float>(1 + uniform(random, -1e-6, 1e-6)));
  }
  values.resize(count);
  std::shuffle(values.begin(), values.end(), random);
  return values;
}

/// Ranges of floats, some of them points.
inline box_type float_box(random_engine& random, std::size_t inputs, double radius) {
  box_type box;
  for (std::size_t i = 0; i < inputs; ++i) {
    double const middle = uniform(random, -1, 1), half = i % 3 == 2 ? 0 : radius;
    box.push_back({static_cast<float>(middle - half), static_cast<float>(middle + half)});
  }
  return box;
}

inline float least_end(input_range const& range, int sign) {
  return static_cast<float>(sign > 0 ? range.lower : range.upper);
}

/// A pair of layers whose terms nearly cancel, in both of them.
struct two_layers final : decltype(Input<60> >> Linear<"a", 700> >> Linear<"b", 1>) {};

inline parameter_map two_layers_parameters(random_engine& random) {
  parameter_map p;
  p.tensors = {{"a.weight", cancelling(random, 60 * 700)},
               {"a.bias", cancelling(random, 700)},
               {"b.weight", cancelling(random, 700)},
               {"b.bias", {1}}};
  return p;
}

/// The exact minimum of their output over a box.
inline exact_sum two_layers_minimum(parameter_map const& p, box_type const& box) {
  auto const& a = p.tensors.at("a.weight");
  auto const& a_bias = p.tensors.at("a.bias");
  auto const& b = p.tensors.at("b.weight");
  exact_sum least;
  least.add(p.tensors.at("b.bias")[0]);
  for (std::size_t k = 0; k < 700; ++k) least.add(b[k], a_bias[k]);
  for (std::size_t i = 0; i < 60; ++i) {
    exact_sum coefficient;
    for (std::size_t k = 0; k < 700; ++k) coefficient.add(b[k], a[k * 60 + i]);
    float const end = least_end(box[i], coefficient.sign());
    for (std::size_t k = 0; k < 700; ++k) least.add(b[k], a[k * 60 + i], end);
  }
  return least;
}

}  // namespace hull::reference
