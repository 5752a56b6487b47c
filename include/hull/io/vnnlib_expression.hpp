// SPDX-License-Identifier: Apache-2.0
// Declared variables and linear expressions over them, as they stand in a VNN-LIB file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/io/vnnlib_lexer.hpp>
#include <hull/io/vnnlib_number.hpp>

namespace hull::io::vnnlib {

/// X_i or Y_i.
struct variable {
  bool output = false;
  std::size_t index = 0;
};

/// The variables declared so far. Indices have to run from 0 without a gap, in any order of declaration, so no index
/// can exceed what the file has room to declare: that keeps a look-up an array access.
class declarations {
 public:
  explicit declarations(std::size_t file_size)
      : largest_(file_size / std::string_view("(declare-const X_0 Real)").size()) {}

  void declare(lexer const& lexer, token const& name) {
    auto const variable = parse(name.text);
    if (!variable) lexer.fail_found(name, "a variable named X_i or Y_i, i = 0, 1, 2, ...");
    if (variable->index >= largest_) lexer.fail_found(name, "variables numbered from 0 without a gap");
    auto& positions = variable->output ? outputs_ : inputs_;
    if (variable->index >= positions.size()) positions.resize(variable->index + 1, undeclared);
    auto& position = positions[variable->index];
    if (position != undeclared) lexer.fail_found(name, "each variable to be declared once");
    position = name.position;
  }

  [[nodiscard]] variable find(lexer const& lexer, token const& name) const {
    auto const variable = parse(name.text);
    if (!variable) lexer.fail_found(name, "a number, X_i, Y_i or '(' and one of + - * /");
    auto const& positions = variable->output ? outputs_ : inputs_;
    if (variable->index >= positions.size() || positions[variable->index] == undeclared) {
      lexer.fail_found(name, "a variable that was declared before");
    }
    return *variable;
  }

  void expect_no_gap(lexer const& lexer) const {
    for (auto const* positions : {&inputs_, &outputs_}) {
      auto const gap = std::find(positions->begin(), positions->end(), undeclared);
      if (gap == positions->end()) continue;
      std::string const prefix = positions == &inputs_ ? "X_" : "Y_";
      lexer.fail(positions->back(), "found " + prefix + std::to_string(positions->size() - 1) + " declared but not " +
                                        prefix + std::to_string(gap - positions->begin()) +
                                        ", expected variables numbered from 0 without a gap");
    }
  }

  [[nodiscard]] std::size_t inputs() const { return inputs_.size(); }
  [[nodiscard]] std::size_t outputs() const { return outputs_.size(); }
  [[nodiscard]] std::size_t input_position(std::size_t index) const { return inputs_[index]; }

 private:
  static constexpr auto undeclared = static_cast<std::size_t>(-1);

  /// Numerals with leading zeros are refused: X_01 and X_1 would be two names of one variable.
  static std::optional<variable> parse(std::string_view name) {
    constexpr std::size_t most_digits = 15;
    if (name.size() < 3 || (name[0] != 'X' && name[0] != 'Y') || name[1] != '_') return {};
    auto const digits = name.substr(2);
    if (digits.size() > most_digits || (digits.size() > 1 && digits[0] == '0')) return {};
    std::size_t index = 0;
    for (char const c : digits) {
      if (!is_digit(c)) return {};
      index = index * 10 + static_cast<std::size_t>(c - '0');
    }
    return variable{name[0] == 'Y', index};
  }

  std::size_t largest_;
  std::vector<std::size_t> inputs_;  // where each is declared
  std::vector<std::size_t> outputs_;
};

struct enclosed_term {
  std::size_t index = 0;
  enclosed coefficient;
};

/// sum(outputs) + sum(inputs) + constant.
struct linear_form {
  std::vector<enclosed_term> outputs;
  std::vector<enclosed_term> inputs;
  enclosed constant;

  [[nodiscard]] bool is_constant() const { return outputs.empty() && inputs.empty(); }
};

template <class Function>
void for_each_number(linear_form& form, Function change) {
  for (auto& t : form.outputs) t.coefficient = change(t.coefficient);
  for (auto& t : form.inputs) t.coefficient = change(t.coefficient);
  form.constant = change(form.constant);
}

/// Moves the shorter list behind the longer one, so that long sums in any nesting stay cheap.
inline void append(std::vector<enclosed_term>& all, std::vector<enclosed_term>&& more) {
  if (all.size() < more.size()) all.swap(more);
  all.insert(all.end(), more.begin(), more.end());
}

/// One term per variable, in order of index, none with coefficient zero.
inline void merge(std::vector<enclosed_term>& terms) {
  auto const by_index = [](auto const& a, auto const& b) { return a.index < b.index; };
  if (!std::is_sorted(terms.begin(), terms.end(), by_index)) std::stable_sort(terms.begin(), terms.end(), by_index);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    if (kept > 0 && terms[kept - 1].index == terms[i].index) {
      terms[kept - 1].coefficient = add(terms[kept - 1].coefficient, terms[i].coefficient);
    } else {
      terms[kept++] = terms[i];
    }
  }
  terms.resize(kept);
  std::erase_if(terms, [](auto const& t) { return t.coefficient.nearest == 0; });
}

inline void negate(linear_form& form) {
  for_each_number(form, [](enclosed const& a) { return negate(a); });
}

inline void add(linear_form& sum, linear_form&& part) {
  append(sum.outputs, std::move(part.outputs));
  append(sum.inputs, std::move(part.inputs));
  sum.constant = add(sum.constant, part.constant);
}

inline void merge(linear_form& form) {
  merge(form.outputs);
  merge(form.inputs);
}

[[nodiscard]] inline bool is_finite(linear_form const& form) {
  auto const finite = [](enclosed_term const& t) { return is_finite(t.coefficient); };
  return is_finite(form.constant) && std::all_of(form.outputs.begin(), form.outputs.end(), finite) &&
         std::all_of(form.inputs.begin(), form.inputs.end(), finite);
}

/// Reads one expression: a number, a variable, or + - * / applied to expressions. Products need all factors but one to
/// be constant, divisors have to be constant. Cost: linear in the text; each level of nested products visits the
/// variables under it once more.
class expression_reader {
 public:
  static constexpr std::size_t deepest = 256;  // of parentheses; the readers recurse, and the stack is finite

  expression_reader(lexer& lexer, declarations const& variables) : lexer_(lexer), variables_(variables) {}

  linear_form read(std::size_t depth) {
    auto const first = lexer_.next();
    switch (first.kind) {
      case token_kind::number:
        return constant(first);
      case token_kind::symbol:
        return variable(first);
      case token_kind::open:
        return application(depth);
      default:
        lexer_.fail_found(first, "a number, X_i, Y_i or '(' and one of + - * /");
    }
  }

 private:
  [[nodiscard]] linear_form constant(token const& word) const {
    auto const number = read_numeral(word.text);
    if (number.state == numeral::state::malformed) lexer_.fail_found(word, "a decimal number");
    if (number.state == numeral::state::too_large) lexer_.fail_found(word, "a number that a double can hold");
    return {{}, {}, number.value};
  }

  [[nodiscard]] linear_form variable(token const& word) const {
    auto const found = variables_.find(lexer_, word);
    linear_form form;
    (found.output ? form.outputs : form.inputs).push_back({found.index, exactly(1)});
    return form;
  }

  linear_form application(std::size_t depth) {
    auto const head = lexer_.next();
    if (depth >= deepest) lexer_.fail_found(head, "at most " + std::to_string(deepest) + " nested parentheses");
    if (head.is("+") || head.is("-")) return sum(head, depth + 1);
    if (head.is("*")) return product(head, depth + 1);
    if (head.is("/")) return quotient(head, depth + 1);
    lexer_.fail_found(head, "one of + - * /");
  }

  linear_form sum(token const& head, std::size_t depth) {
    auto result = read(depth);
    bool const minus = head.text == "-";
    if (minus && lexer_.peek().kind == token_kind::close) negate(result);
    while (!lexer_.take_close()) {
      auto part = read(depth);
      if (minus) negate(part);
      add(result, std::move(part));
    }
    return checked(head, std::move(result));
  }

  /// Merges before it multiplies: nested products would else visit every term of a long sum at every level.
  linear_form product(token const& head, std::size_t depth) {
    auto result = read(depth);
    merge(result);
    while (!lexer_.take_close()) {
      auto const position = lexer_.peek().position;
      auto factor = read(depth);
      merge(factor);
      if (!factor.is_constant()) std::swap(result, factor);
      if (!factor.is_constant())
        lexer_.fail(position, "found a product of two variables, expected a linear expression");
      for_each_number(result, [&](enclosed const& a) { return multiply(a, factor.constant); });
    }
    return checked(head, std::move(result));
  }

  linear_form quotient(token const& head, std::size_t depth) {
    auto result = read(depth);
    merge(result);
    while (!lexer_.take_close()) {
      auto const position = lexer_.peek().position;
      auto const divisor = read(depth);
      if (!divisor.is_constant()) lexer_.fail(position, "found a variable in a divisor, expected a linear expression");
      if (divisor.constant.lower <= 0 && divisor.constant.upper >= 0) {
        lexer_.fail(position, "found a divisor that may be zero, expected a number that is not");
      }
      for_each_number(result, [&](enclosed const& a) { return divide(a, divisor.constant); });
    }
    return checked(head, std::move(result));
  }

  linear_form checked(token const& head, linear_form&& form) const {
    if (!is_finite(form)) lexer_.fail(head.position, "found an overflow, expected numbers that a double can hold");
    return std::move(form);
  }

  lexer& lexer_;
  declarations const& variables_;
};

}  // namespace hull::io::vnnlib
