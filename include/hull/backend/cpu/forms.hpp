// SPDX-License-Identifier: Apache-2.0
// Rows of a specification: linear forms over the outputs, and over the inputs where they have terms.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/propagate/machine.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cpu {

/// Starts rows at the outputs, with coefficients a_output [rows, live], and at the inputs, with a_input (null: no terms
/// there). `additions`: how often the consumers of the input will round its coefficients.
template <class R>
void seed_forms(stage_state const& input, stage_state const& output, std::span<row_form const> forms,
                row_block const& rows, float* a_input, float* a_output, std::size_t additions) {
  constexpr double least_double = std::numeric_limits<double>::min();
  if (a_output != nullptr) std::fill_n(a_output, rows.count * output.live_count, 0.0f);
  if (a_input != nullptr) std::fill_n(a_input, rows.count * input.live_count, 0.0f);
  for (std::size_t r = 0; r < rows.count; ++r) {
    linear_constraint const& form = *forms[r].form;
    rows.box[r] = forms[r].box;
    rows.index[r] = static_cast<index_t>(r);
    rows.sign[r] = 1;
    double value = form.constant, magnitude = std::fabs(form.constant), slack = 0;
    auto const add = [&](stage_state const& s, float* a, std::size_t later, std::vector<term> const& terms) {
      double const later_error = gamma(later, unit_float);
      for (term const& t : terms) {
        std::size_t const at = rows.box[r] * s.size + t.index;
        double const centre = s.centre[at], part = t.coefficient * centre;
        value += part;
        magnitude += std::fabs(part);
        if (std::fabs(part) < least_double && t.coefficient != 0 && centre != 0) slack += least_double;  // underflow
        if (s.slot[t.index] == stage_state::dead) continue;  // the output is its centre
        float const rounded = static_cast<float>(t.coefficient);
        float& coefficient = a[r * s.live_count + s.slot[t.index]];
        bool const first = coefficient == 0;  // else the element is named twice, and the addition rounds
        coefficient += rounded;
        double const doubt = std::fabs(t.coefficient - rounded) + later_error * std::fabs(rounded) +
                             (first ? 0 : unit_float * std::fabs(coefficient));
        slack += doubt * s.spread[at];
      }
    };
    add(output, a_output, 0, form.outputs);
    add(input, a_input, additions, form.inputs);
    std::size_t const terms = form.outputs.size() + form.inputs.size();
    rows.value[r] = value;
    if (rows.far_value != nullptr) rows.far_value[r] = value;
    rows.slack[r] = R::outward ? 1.001 * (slack + gamma_sum(2 * terms) * magnitude) : 0;
  }
}

/// Bounds such rows by the intervals of both ends.
template <class R>
void bound_by_intervals(stage_state const& input, stage_state const& output, row_block const& rows,
                        float const* a_input, float const* a_output) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    double distance = 0;
    std::size_t terms = 0;
    auto const add = [&](stage_state const& s, float const* a) {
      if (a == nullptr) return;
      for (std::size_t c = 0; c < s.live_count; ++c) {
        distance +=
            static_cast<double>(std::fabs(a[r * s.live_count + c])) * s.spread[rows.box[r] * s.size + s.live[c]];
      }
      terms += s.live_count;
    };
    add(input, a_input);
    if (&output != &input) add(output, a_output);
    if constexpr (R::outward) distance *= 1 + gamma_sum(terms);
    rows.bound[r] = down::sub(down::sub(rows.value[r], rows.slack[r]), distance);
  }
}

}  // namespace hull::cpu
