// SPDX-License-Identifier: Apache-2.0
// What is asked of a network, as a union of cases: VNN-LIB's question in disjunctive normal form.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace hull {

/// One coefficient of a linear form.
struct term {
  std::size_t index = 0;
  double coefficient = 0;
};

/// The linear constraint  sum(outputs) + sum(inputs) + constant <= 0  (< 0 if `strict`).
struct linear_constraint {
  std::vector<term> outputs;  // over Y
  std::vector<term> inputs;   // over X; empty in most specifications
  double constant = 0;
  bool strict = false;
};

/// A closed interval of one input coordinate. Invariant: lower <= upper, both finite.
struct input_range {
  double lower = 0;
  double upper = 0;
};

/// A box of inputs and the constraints that a counterexample in it has to satisfy, all at once.
/// The case is refuted when for every point of the box at least one constraint fails.
struct disjunct {
  std::vector<input_range> box;  // [inputs]
  std::vector<linear_constraint> constraints;
};

/// The property is violated (`sat`) if any disjunct has a point that satisfies all its constraints,
/// and holds (`unsat`) if every disjunct is refuted.
struct specification {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::vector<disjunct> disjuncts;
  std::string source;  // name of the file, for messages
};

}  // namespace hull
