// SPDX-License-Identifier: Apache-2.0
// From the formulas of a VNN-LIB file to a specification: disjunctive normal form, one box per disjunct.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/vnnlib_expression.hpp>
#include <hull/io/vnnlib_formula.hpp>
#include <hull/io/vnnlib_lexer.hpp>
#include <hull/propagate/specification.hpp>

namespace hull::io {

/// Conjoined `or`s multiply: a short text can ask for more disjuncts than any machine holds.
struct vnnlib_limits {
  double disjuncts = 1e6;
  double bytes = 1 << 30;  // of the specification, estimated from above
};

}  // namespace hull::io

namespace hull::io::vnnlib {

/// Spreads one formula, the conjunction of all assertions, into disjuncts.
class cases {
 public:
  cases(lexer const& lexer, declarations const& variables, std::vector<condition> const& conditions,
        vnnlib_limits const& limits)
      : lexer_(lexer),
        variables_(variables),
        conditions_(conditions),
        limits_(limits),
        scratch_(variables.inputs(), unbounded) {}

  /// Cost: linear in the size of the result, which is checked against the limits before it is built.
  std::vector<disjunct> spread(formula&& asserted) {
    if (asserted.kind != formula::kind::all) {
      formula conjunction{formula::kind::all, 0, {}};
      conjunction.parts.push_back(std::move(asserted));
      asserted = std::move(conjunction);
    }
    // Conditions that hold everywhere are applied once; only the rest is multiplied out.
    auto const common = own_conditions(asserted);
    std::erase_if(asserted.parts, [](formula const& part) { return part.kind == formula::kind::condition; });
    expect_fits(asserted, common);

    disjunct everywhere{std::vector<input_range>(variables_.inputs(), unbounded), {}};
    apply(common, everywhere);
    std::vector<disjunct> result;
    auto const spread_out = clauses(asserted);
    for (std::size_t i = 0; i < spread_out.size(); ++i) {
      auto candidate = everywhere;
      if (!apply(spread_out[i], candidate)) continue;
      expect_bounded(candidate, spread_out.size() > 1 ? " in disjunct " + std::to_string(i + 1) : "");
      result.push_back(std::move(candidate));
    }
    if (result.empty()) {
      lexer_.fail(0, "found assertions that contradict each other for every input, expected a box that is not empty");
    }
    return result;
  }

 private:
  using clause = std::vector<std::size_t>;  // conditions that hold together
  struct extent {
    double clauses = 1;
    double bytes = 0;
  };

  static constexpr auto infinity = std::numeric_limits<double>::infinity();
  static constexpr input_range unbounded{-infinity, infinity};

  /// The conditions directly under an `and`. Their bounds must agree with each other: a box that is inverted as it is
  /// written is a mistake, while one that is emptied by bounds from elsewhere is only a case that cannot occur.
  clause own_conditions(formula const& conjunction) {
    clause result;
    for (auto const& part : conjunction.parts) {
      if (part.kind == formula::kind::condition) result.push_back(part.condition);
    }
    for (auto const index : result) {
      auto const& bound = conditions_[index].bound;
      if (bound && !tighten(scratch_[bound->input], *bound)) fail_inverted(conditions_[index]);
    }
    for (auto const index : result) {
      if (auto const& bound = conditions_[index].bound) scratch_[bound->input] = unbounded;
    }
    return result;
  }

  std::vector<clause> clauses(formula const& f) {
    if (f.kind == formula::kind::condition) return {{f.condition}};
    std::vector<clause> result;
    if (f.kind == formula::kind::any) {
      for (auto const& part : f.parts) {
        for (auto& c : clauses(part)) result.push_back(std::move(c));
      }
      return result;
    }
    result.push_back(own_conditions(f));
    for (auto const& part : f.parts) {
      if (part.kind == formula::kind::any) result = product(std::move(result), clauses(part));
    }
    return result;
  }

  static std::vector<clause> product(std::vector<clause>&& first, std::vector<clause> const& second) {
    std::vector<clause> result;
    result.reserve(first.size() * second.size());
    for (auto const& a : first) {
      for (auto const& b : second) {
        clause both;
        both.reserve(a.size() + b.size());
        both.insert(both.end(), a.begin(), a.end());
        both.insert(both.end(), b.begin(), b.end());
        result.push_back(std::move(both));
      }
    }
    return result;
  }

  void expect_fits(formula const& asserted, clause const& common) const {
    auto each = static_cast<double>(variables_.inputs() * sizeof(input_range) + sizeof(disjunct) + sizeof(clause));
    for (auto const index : common) each += bytes_of(index);
    auto const total = extent_of(asserted);
    expect_within(total.clauses, total.clauses * each + total.bytes);
  }

  [[nodiscard]] extent extent_of(formula const& f) const {
    if (f.kind == formula::kind::condition) return {1, bytes_of(f.condition) + sizeof(clause)};
    bool const any = f.kind == formula::kind::any;
    extent result{any ? 0.0 : 1.0, 0};
    for (auto const& part : f.parts) {
      auto const more = extent_of(part);
      if (any) {
        result = {result.clauses + more.clauses, result.bytes + more.bytes};
      } else {
        result = {result.clauses * more.clauses, result.bytes * more.clauses + more.bytes * result.clauses};
      }
      expect_within(result.clauses, result.bytes);
    }
    return result;
  }

  [[nodiscard]] double bytes_of(std::size_t index) const {
    constexpr std::size_t allocation = 16;
    auto bytes = sizeof(std::size_t);
    if (auto const& c = conditions_[index].constraint) {
      bytes += sizeof(linear_constraint) + 2 * allocation + (c->outputs.size() + c->inputs.size()) * sizeof(term);
    }
    return static_cast<double>(bytes);
  }

  void expect_within(double disjuncts, double bytes) const {
    if (disjuncts > limits_.disjuncts) {
      lexer_.fail(
          0, "found and/or that spread to more than " + shortest(limits_.disjuncts) + " disjuncts, expected fewer");
    }
    if (bytes > limits_.bytes) {
      lexer_.fail(0, "found and/or that spread to more than " + shortest(limits_.bytes / (1 << 20)) +
                         " MiB of boxes and constraints, expected less");
    }
  }

  /// Adds what `c` says to `d`; false if the box is empty.
  bool apply(clause const& c, disjunct& d) const {
    for (auto const index : c) {
      auto const& [position, bound, constraint] = conditions_[index];
      if (bound && !tighten(d.box[bound->input], *bound)) return false;
      if (constraint) d.constraints.push_back(*constraint);
    }
    return true;
  }

  static bool tighten(input_range& range, input_bound const& bound) {
    if (bound.upper) {
      range.upper = std::min(range.upper, bound.value);
    } else {
      range.lower = std::max(range.lower, bound.value);
    }
    return range.lower <= range.upper;
  }

  [[noreturn]] void fail_inverted(condition const& last) const {
    auto const i = last.bound->input;
    lexer_.fail(last.position, "found lower bound " + shortest(scratch_[i].lower) + " above upper bound " +
                                   shortest(scratch_[i].upper) + " of X_" + std::to_string(i) +
                                   ", expected a box that is not inverted");
  }

  void expect_bounded(disjunct const& d, std::string const& where) const {
    for (std::size_t i = 0; i < d.box.size(); ++i) {
      for (bool const upper : {false, true}) {
        if ((upper ? d.box[i].upper : -d.box[i].lower) < infinity) continue;
        lexer_.fail(variables_.input_position(i), "found no " + std::string(upper ? "upper" : "lower") +
                                                      " bound of X_" + std::to_string(i) + where +
                                                      ", expected finite bounds on every input");
      }
    }
  }

  static std::string shortest(double value) {
    std::string text(32, '\0');
    return text.substr(
        0, static_cast<std::size_t>(std::to_chars(text.data(), text.data() + text.size(), value).ptr - text.data()));
  }

  lexer const& lexer_;
  declarations const& variables_;
  std::vector<condition> const& conditions_;
  vnnlib_limits limits_;
  std::vector<input_range> scratch_;  // [inputs], unbounded between uses
};

}  // namespace hull::io::vnnlib
