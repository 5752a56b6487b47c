// SPDX-License-Identifier: Apache-2.0
// A specification as propagation wants it: distinct boxes, and rows that name their box.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
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
  std::vector<problem_row> rows;            // in order of the specification
  std::vector<std::size_t> disjunct_box;    // [disjunct]
  std::vector<std::size_t> first_row;       // [disjunct + 1]

  problem(specification const& spec, std::size_t inputs, std::size_t outputs) {
    expect(spec.inputs == inputs, spec.source + ": the specification has " + std::to_string(spec.inputs) +
                                      " inputs X, the network has " + std::to_string(inputs));
    expect(spec.outputs == outputs || spec.outputs == 0,
           spec.source + ": the specification has " + std::to_string(spec.outputs) + " outputs Y, the network has " +
               std::to_string(outputs));
    auto const same = [](box_view a, box_view b) {
      return std::equal(a->begin(), a->end(), b->begin(), b->end(), [](input_range const& x, input_range const& y) {
        return x.lower == y.lower && x.upper == y.upper;
      });
    };
    for (std::size_t d = 0; d < spec.disjuncts.size(); ++d) {
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
};

/// Whether a lower bound of the form refutes the constraint  form <= 0  (form < 0 if strict) on the whole box.
[[nodiscard]] inline bool refutes(double lower_bound, linear_constraint const& form) {
  return form.strict ? lower_bound >= 0 : lower_bound > 0;  // false for NaN
}

}  // namespace hull
