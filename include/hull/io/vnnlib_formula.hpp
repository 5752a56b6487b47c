// SPDX-License-Identifier: Apache-2.0
// Formulas of a VNN-LIB file: comparisons of linear expressions under and, or, not.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/io/vnnlib_expression.hpp>
#include <hull/io/vnnlib_lexer.hpp>
#include <hull/io/vnnlib_number.hpp>
#include <hull/propagate/specification.hpp>

namespace hull::io::vnnlib {

/// X_input <= value, or >= value. Rounded outwards from what the file says.
struct input_bound {
  std::size_t input = 0;
  bool upper = false;
  double value = 0;
};

/// One comparison. A closed bound on one input needs no constraint; a strict one has both, because boxes are closed.
struct condition {
  std::size_t position = 0;  // in the file
  std::optional<input_bound> bound;
  std::optional<linear_constraint> constraint;
};

/// A tree without constants inside and without a node under its own kind. `all` of nothing is true, `any` of nothing
/// is false; both occur only as a whole formula.
struct formula {
  enum class kind : std::uint8_t { condition, all, any } kind = kind::all;
  std::size_t condition = 0;  // index, for kind::condition
  std::vector<formula> parts;

  [[nodiscard]] bool is_decided() const { return kind != kind::condition && parts.empty(); }
};

/// `parts` under and (kind::all) or under or (kind::any), simplified.
[[nodiscard]] inline formula join(enum formula::kind kind, std::vector<formula>&& parts) {
  formula result{kind, 0, {}};
  for (auto& part : parts) {
    if (part.kind == kind) {
      if (result.parts.empty()) {
        result.parts = std::move(part.parts);
      } else {
        for (auto& p : part.parts) result.parts.push_back(std::move(p));
      }
    } else if (part.is_decided()) {
      return std::move(part);  // true under or, false under and
    } else {
      result.parts.push_back(std::move(part));
    }
  }
  if (result.parts.size() != 1) return result;
  auto only = std::move(result.parts.front());
  return only;
}

inline std::vector<term> rounded(std::vector<enclosed_term> const& terms) {
  std::vector<term> result;
  result.reserve(terms.size());
  for (auto const& t : terms) result.push_back({t.index, t.coefficient.nearest});
  return result;
}

/// What  form <= 0  says about its one input; nothing if the sign of the coefficient is in doubt.
inline std::optional<input_bound> bound_of(linear_form const& form) {
  auto const& [index, coefficient] = form.inputs.front();
  if (coefficient.lower <= 0 && coefficient.upper >= 0) return {};
  auto const limit = divide(negate(form.constant), coefficient);
  bool const upper = coefficient.lower > 0;
  return input_bound{index, upper, (upper ? limit.upper : limit.lower) + 0.0};  // + 0.0: no negative zeros
}

/// Reads formulas, and collects their comparisons in normal form.
class formula_reader {
 public:
  formula_reader(lexer& lexer, declarations const& variables) : lexer_(lexer), expressions_(lexer, variables) {}

  formula read() { return read(false, 0); }

  [[nodiscard]] std::vector<condition> const& conditions() const { return conditions_; }

 private:
  static constexpr std::string_view expected = "one of <= >= < > = and or not";

  /// `negated` carries a not down to the comparisons.
  formula read(bool negated, std::size_t depth) {
    if (lexer_.peek().is("true") || lexer_.peek().is("false")) {
      return {lexer_.next().is("true") != negated ? formula::kind::all : formula::kind::any, 0, {}};
    }
    lexer_.expect(token_kind::open, "'(' and " + std::string(expected));
    auto const head = lexer_.next();
    if (depth >= expression_reader::deepest) {
      lexer_.fail_found(head, "at most " + std::to_string(expression_reader::deepest) + " nested parentheses");
    }
    if (head.is("and")) return parts(negated ? formula::kind::any : formula::kind::all, negated, depth + 1);
    if (head.is("or")) return parts(negated ? formula::kind::all : formula::kind::any, negated, depth + 1);
    if (head.is("not")) {
      auto result = read(!negated, depth + 1);
      lexer_.expect_close();
      return result;
    }
    return comparison(head, negated, depth + 1);
  }

  formula parts(enum formula::kind kind, bool negated, std::size_t depth) {
    std::vector<formula> result;
    do {
      result.push_back(read(negated, depth));
    } while (!lexer_.take_close());
    return join(kind, std::move(result));
  }

  /// As in SMT-LIB, (<= a b c) means a <= b and b <= c.
  formula comparison(token const& head, bool negated, std::size_t depth) {
    bool const strict = head.is("<") || head.is(">");
    bool const less = head.is("<=") || head.is("<") || head.is("=");
    bool const more = head.is(">=") || head.is(">") || head.is("=");
    if (!less && !more) lexer_.fail_found(head, expected);

    std::vector<formula> links;
    auto left = expressions_.read(depth);
    do {
      auto right = expressions_.read(depth);
      if (less) links.push_back(link(head, left, right, strict, negated));
      if (more) links.push_back(link(head, right, left, strict, negated));
      left = std::move(right);
    } while (!lexer_.take_close());
    return join(negated ? formula::kind::any : formula::kind::all, std::move(links));
  }

  /// smaller <= greater (or <); negated: greater < smaller (or <=).
  formula link(token const& head, linear_form const& smaller, linear_form const& greater, bool strict, bool negated) {
    auto form = negated ? greater : smaller;
    auto other = negated ? smaller : greater;
    negate(other);
    add(form, std::move(other));
    merge(form);
    if (!is_finite(form)) overflow(head);
    return store(head, form, strict != negated);
  }

  formula store(token const& head, linear_form const& form, bool strict) {
    if (form.is_constant()) {
      auto const c = form.constant.lower;  // true unless it is certainly false
      return {(strict ? c < 0 : c <= 0) ? formula::kind::all : formula::kind::any, 0, {}};
    }
    condition result;
    result.position = head.position;
    if (form.outputs.empty() && form.inputs.size() == 1) result.bound = bound_of(form);
    if (result.bound && !std::isfinite(result.bound->value)) overflow(head);
    if (strict || !result.bound) {
      result.constraint =
          linear_constraint{rounded(form.outputs), rounded(form.inputs), form.constant.nearest + 0.0, strict};
    }
    conditions_.push_back(std::move(result));
    return {formula::kind::condition, conditions_.size() - 1, {}};
  }

  [[noreturn]] void overflow(token const& head) const {
    lexer_.fail(head.position, "found an overflow, expected numbers that a double can hold");
  }

  lexer& lexer_;
  expression_reader expressions_;
  std::vector<condition> conditions_;
};

}  // namespace hull::io::vnnlib
