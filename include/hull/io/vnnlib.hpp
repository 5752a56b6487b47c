// SPDX-License-Identifier: Apache-2.0
// VNN-LIB 1.0: what VNN-COMP asks of a network, read into a specification.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/io/file.hpp>
#include <hull/io/vnnlib_cases.hpp>
#include <hull/io/vnnlib_expression.hpp>
#include <hull/io/vnnlib_formula.hpp>
#include <hull/io/vnnlib_lexer.hpp>
#include <hull/propagate/specification.hpp>

namespace hull::io {

namespace vnnlib {

/// The commands of a file, top to bottom.
class reader {
 public:
  reader(std::string_view text, std::string_view source)
      : lexer_(text, source), variables_(text.size()), formulas_(lexer_, variables_) {}

  specification read(vnnlib_limits const& limits) {
    while (lexer_.peek().kind != token_kind::end) command();
    if (variables_.inputs() == 0) lexer_.fail_found(lexer_.peek(), "a declaration (declare-const X_0 Real)");
    variables_.expect_no_gap(lexer_);

    specification result;
    result.inputs = variables_.inputs();
    result.outputs = variables_.outputs();
    cases whole(lexer_, variables_, formulas_.conditions(), limits);
    result.disjuncts = whole.spread(join(formula::kind::all, std::move(asserted_)));
    return result;
  }

 private:
  void command() {
    lexer_.expect(token_kind::open, "'(' and a command");
    auto const name = lexer_.next();
    if (name.is("declare-const")) {
      declare(false);
    } else if (name.is("declare-fun")) {
      declare(true);
    } else if (name.is("assert")) {
      asserted_.push_back(formulas_.read());
      lexer_.expect_close();
    } else if (name.is("exit")) {
      lexer_.expect_close();
      lexer_.expect(token_kind::end, "nothing after (exit)");
    } else if (name.is("set-logic") || name.is("set-info") || name.is("set-option") || name.is("check-sat") ||
               name.is("get-model")) {
      skip_to_close();
    } else if (name.is("vnnlib-version") || name.is("declare-network")) {
      lexer_.fail(name.position, "found VNN-LIB 2.0, which is not supported yet, expected VNN-LIB 1.0");
    } else {
      lexer_.fail_found(name, "declare-const or assert");
    }
  }

  void declare(bool as_function) {
    auto const name = lexer_.expect(token_kind::symbol, "X_i or Y_i");
    variables_.declare(lexer_, name);
    if (as_function) {
      lexer_.expect(token_kind::open, "'()'");
      lexer_.expect_close();
    }
    if (!lexer_.peek().is("Real")) lexer_.fail_found(lexer_.peek(), "Real");
    lexer_.next();
    lexer_.expect_close();
  }

  void skip_to_close() {
    for (std::size_t open = 1; open > 0;) {
      auto const t = lexer_.next();
      if (t.kind == token_kind::end) lexer_.fail_found(t, "')'");
      open += t.kind == token_kind::open;
      open -= t.kind == token_kind::close;
    }
  }

  lexer lexer_;
  declarations variables_;
  formula_reader formulas_;
  std::vector<formula> asserted_;
};

}  // namespace vnnlib

/// Reads VNN-LIB 1.0: Real constants X_i and Y_i, and assertions of linear comparisons under and, or, not.
///
/// Every disjunct gets its own box, from all bounds that hold in it. Bounds are rounded outwards to double, so the box
/// contains the one of the text; coefficients and constants of constraints are the nearest doubles. A strict bound on
/// one input gives a closed box and a strict constraint beside it. Disjuncts that bounds from elsewhere leave empty are
/// dropped. A text that constrains X alone gives disjuncts without constraints: any point of the box satisfies them.
///
/// Throws hull::error, "source:line:column: what was found, what was expected": on text that is not VNN-LIB 1.0 (2.0
/// has its own message), nonlinear expressions, numbers beyond double, an input without finite bounds, bounds that
/// invert a box, assertions that leave no disjunct at all, or a normal form beyond `limits`.
/// Cost: linear in the text and in the specification that it spells.
[[nodiscard]] inline specification read_vnnlib(std::string_view text, std::string source,
                                               vnnlib_limits const& limits = {}) {
  auto result = vnnlib::reader(text, source).read(limits);
  result.source = std::move(source);
  return result;
}

/// The same for a file, gzipped or not; `path`.gz is tried if `path` does not exist (hull/io/file.hpp).
[[nodiscard]] inline specification load_vnnlib(std::filesystem::path const& path) {
  return read_vnnlib(read_file(path), path.string());
}

}  // namespace hull::io
