// SPDX-License-Identifier: Apache-2.0
// Random parameters, boxes and linear forms for tests, all from one seed.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include <hull/propagate/specification.hpp>

#include "reference.hpp"

namespace hull::reference {

using random_engine = std::mt19937_64;
using box_type = std::vector<input_range>;

[[nodiscard]] inline double uniform(random_engine& random, double lower, double upper) {
  return std::uniform_real_distribution<double>(lower, upper)(random);
}

/// Weights normal with variance 2 / fan-in times gain^2 (He et al. 2015), biases small, statistics and slopes ordinary.
template <Network Net>
[[nodiscard]] parameter_map random_parameters(std::size_t seed, double gain = 1) {
  random_engine random(seed);
  std::normal_distribution<double> normal;
  parameter_map p;
  auto const& slots = parameter_slots<Net>;
  for (std::size_t at = 0; at < slots.size(); ++at) {
    auto& values = p.tensors[std::string(slots[at].layer) + '.' + std::string(slots[at].name)];
    for (std::size_t i = 0; i < slots[at].count; ++i) {
      double value = 0.3 * normal(random);
      if (slots[at].name == "weight") {
        double const fan_in = static_cast<double>(slots[at].count / slots[at + 1].count);  // the bias comes next
        value = gain * std::sqrt(2 / fan_in) * normal(random);
      } else if (slots[at].name == "variance" || slots[at].name == "scale" || slots[at].name == "constant") {
        value = uniform(random, 0.3, 1.7);
      } else if (slots[at].name == "epsilon") {
        value = 1e-5;
      }
      values.push_back(static_cast<float>(value));
    }
  }
  return p;
}

/// Ranges of this radius around normal points times `scale`; every fifth range is a point, for radius 0 all are.
[[nodiscard]] inline box_type random_box(random_engine& random, std::size_t inputs, double radius, double scale = 1) {
  std::normal_distribution<double> normal;
  box_type box;
  for (std::size_t i = 0; i < inputs; ++i) {
    double const middle = scale * normal(random), half = i % 5 == 4 ? 0 : scale * radius * uniform(random, 0, 1);
    box.push_back({middle - half, middle + half});
  }
  return box;
}

/// Forms over all outputs, over two of them, over one, and, if asked, with terms over X. Coefficients are no floats.
[[nodiscard]] inline std::vector<linear_constraint> random_forms(random_engine& random, std::size_t inputs,
                                                                 std::size_t outputs, bool with_inputs) {
  std::vector<linear_constraint> forms(6);
  for (std::size_t i = 0; i < outputs; ++i) forms[0].outputs.push_back({i, uniform(random, -1, 1)});
  for (std::size_t f : {1u, 2u}) {
    forms[f].outputs = {{random() % outputs, 1.0}, {random() % outputs, -1.0}};
    forms[f].constant = uniform(random, -1, 1);
  }
  forms[3].outputs = {{random() % outputs, 1e-3 / 3}};
  forms[4].outputs = {{random() % outputs, -1.0}};
  forms[5].outputs = {{random() % outputs, 0.1}, {0, 1.0 / 3}, {0, -0.7}};  // an output named twice
  if (with_inputs) {
    forms[5].inputs = {{random() % inputs, 0.3}, {0, -1.1}, {0, 0.4}};
    forms[1].inputs = {{random() % inputs, 1.0}};
  }
  return forms;
}

/// Exact to long double's rounding.
[[nodiscard]] inline long double value_of(linear_constraint const& form, std::vector<long double> const& y,
                                          std::vector<long double> const& x) {
  long double sum = form.constant;
  for (term const& t : form.outputs) sum += t.coefficient * y[t.index];
  for (term const& t : form.inputs) sum += t.coefficient * x[t.index];
  return sum;
}

}  // namespace hull::reference
