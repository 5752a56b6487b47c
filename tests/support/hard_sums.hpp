// SPDX-License-Identifier: Apache-2.0
// Numbers that make rounding errors of sums large.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

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

}  // namespace hull::reference
