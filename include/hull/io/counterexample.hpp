// SPDX-License-Identifier: Apache-2.0
// Counterexamples: their check against a specification, and their text in VNN-COMP's format.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/specification.hpp>

namespace hull::io {

namespace detail {

inline void append_values(std::string& text, std::string_view name, std::span<double const> values) {
  constexpr int digits = 17;  // enough to tell any two doubles apart
  for (std::size_t i = 0; i < values.size(); ++i) {
    char number[32];
    auto const end = std::to_chars(number, number + sizeof number, values[i], std::chars_format::general, digits).ptr;
    text.append(text.empty() ? "((" : "\n (").append(name).append(std::to_string(i)).append(" ");
    text.append(number, end).append(")");
  }
}

inline double evaluate(std::vector<term> const& terms, std::span<double const> values) {
  double sum = 0;
  for (auto const& t : terms) sum += t.coefficient * values[t.index];
  return sum;
}

}  // namespace detail

/// "((X_0 v)\n (X_1 v) ... (Y_0 v) ...)", 17 significant digits: reading them back gives the same doubles.
[[nodiscard]] inline std::string counterexample_text(std::span<double const> x, std::span<double const> y) {
  std::string text;
  detail::append_values(text, "X_", x);
  detail::append_values(text, "Y_", y);
  return text + ")";
}

/// True if the constraint holds as evaluated in double, with no tolerance. NaN satisfies nothing.
[[nodiscard]] inline bool satisfies(linear_constraint const& constraint, std::span<double const> x,
                                    std::span<double const> y) {
  double const value =
      detail::evaluate(constraint.outputs, y) + detail::evaluate(constraint.inputs, x) + constraint.constant;
  return constraint.strict ? value < 0 : value <= 0;
}

/// True if x lies in the box and (x, y) satisfies all constraints, with no tolerance. NaN satisfies nothing.
/// Throws hull::error if x has another size than the box. y must hold every index that the constraints name.
[[nodiscard]] inline bool satisfies(disjunct const& what, std::span<double const> x, std::span<double const> y) {
  expect(x.size() == what.box.size(),
         "satisfies: found " + std::to_string(x.size()) + " inputs, expected " + std::to_string(what.box.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(what.box[i].lower <= x[i] && x[i] <= what.box[i].upper)) return false;
  }
  return std::all_of(what.constraints.begin(), what.constraints.end(),
                     [&](linear_constraint const& c) { return satisfies(c, x, y); });
}

/// True if any disjunct is satisfied. y is checked for NaN even where no constraint names it: a network that answers
/// NaN proves nothing. Throws hull::error if x or y has another size than the specification says; where that declares
/// no outputs, y may have any.
[[nodiscard]] inline bool satisfies(specification const& what, std::span<double const> x, std::span<double const> y) {
  expect(what.outputs == 0 || y.size() == what.outputs,
         "satisfies: found " + std::to_string(y.size()) + " outputs, expected " + std::to_string(what.outputs));
  if (std::any_of(y.begin(), y.end(), [](double value) { return value != value; })) return false;
  return std::any_of(what.disjuncts.begin(), what.disjuncts.end(),
                     [&](disjunct const& d) { return satisfies(d, x, y); });
}

}  // namespace hull::io
