// SPDX-License-Identifier: Apache-2.0
// A specification as propagation wants it: distinct boxes, and rows that name their box.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/specification.hpp>

namespace hull {

using box_view = std::vector<input_range> const*;

/// One constraint of one disjunct.
struct problem_row final {
  std::size_t disjunct = 0;
  std::size_t box = 0;  // number in problem::boxes
  linear_constraint const* form = nullptr;
};

/// Borrows the specification. Disjuncts with equal boxes (robustness: nine of them) share one box of the batch.
struct problem final {
  std::vector<box_view> boxes;
  std::vector<problem_row> rows;          // in order of the specification
  std::vector<std::size_t> disjunct_box;  // [disjunct]
  std::vector<std::size_t> first_row;     // [disjunct + 1]

  problem(specification const& spec, std::size_t inputs, std::size_t outputs) {
    expect(spec.inputs == inputs, spec.source + ": the specification has " + std::to_string(spec.inputs) +
                                      " inputs X, the network has " + std::to_string(inputs));
    expect(spec.outputs == outputs || spec.outputs == 0, spec.source + ": the specification has " +
                                                             std::to_string(spec.outputs) +
                                                             " outputs Y, the network has " + std::to_string(outputs));
    auto const same = [](box_view a, box_view b) {
      return std::equal(a->begin(), a->end(), b->begin(), b->end(), [](input_range const& x, input_range const& y) {
        return x.lower == y.lower && x.upper == y.upper;
      });
    };
    for (std::size_t d = 0; d < spec.disjuncts.size(); ++d) {
      check(spec, spec.disjuncts[d]);
      box_view const box = &spec.disjuncts[d].box;
      // equal boxes stand next to each other in practice, so one look back keeps this linear
      if (boxes.empty() || !same(boxes.back(), box)) boxes.push_back(box);
      disjunct_box.push_back(boxes.size() - 1);
      first_row.push_back(rows.size());
      for (auto const& form : spec.disjuncts[d].constraints) rows.push_back({d, boxes.size() - 1, &form});
    }
    first_row.push_back(rows.size());
  }

  [[nodiscard]] std::size_t disjuncts() const { return disjunct_box.size(); }

 private:
  /// What the rest of the library relies on; readers of files have checked it with better messages.
  static void check(specification const& spec, disjunct const& one) {
    auto const refuse = [&](char const* what) { throw error(spec.source + ": " + what); };
    if (one.box.size() != spec.inputs) refuse("a box has not one range for each input X");
    for (input_range const& range : one.box) {
      if (!(range.lower <= range.upper)) refuse("a range of a box is empty");
      if (!std::isfinite(range.lower) || !std::isfinite(range.upper)) refuse("a range of a box is not finite");
    }
    for (auto const& form : one.constraints) {
      auto const within = [](std::size_t count) { return [=](term const& t) { return t.index < count; }; };
      if (!std::all_of(form.outputs.begin(), form.outputs.end(), within(spec.outputs))) {
        refuse("a constraint names an output Y that is not there");
      }
      if (!std::all_of(form.inputs.begin(), form.inputs.end(), within(spec.inputs))) {
        refuse("a constraint names an input X that is not there");
      }
    }
  }
};

/// Whether a lower bound of the form refutes the constraint  form <= 0  (form < 0 if strict) on the whole box.
[[nodiscard]] inline bool refutes(double lower_bound, linear_constraint const& form) {
  return form.strict ? lower_bound >= 0 : lower_bound > 0;  // false for NaN
}

}  // namespace hull
