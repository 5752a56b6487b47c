// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/vnnlib.hpp>

namespace {

using hull::io::read_vnnlib;

std::string declarations(int inputs, int outputs) {
  std::string text;
  for (int i = 0; i < inputs; ++i) text += "(declare-const X_" + std::to_string(i) + " Real)\n";
  for (int i = 0; i < outputs; ++i) text += "(declare-const Y_" + std::to_string(i) + " Real)\n";
  return text;
}

/// Two inputs in [0, 1], two outputs, and `assertions`.
hull::specification on_unit_box(std::string const& assertions) {
  return read_vnnlib(declarations(2, 2) + "(assert (<= 0 X_0 1))(assert (<= 0 X_1 1))" + assertions, "test");
}

hull::linear_constraint only_constraint(std::string const& comparison) {
  auto const s = on_unit_box("(assert " + comparison + ")");
  REQUIRE(s.disjuncts.size() == 1);
  REQUIRE(s.disjuncts[0].constraints.size() == 1);
  return s.disjuncts[0].constraints[0];
}

hull::input_range range_of(std::string const& assertions) {
  auto const s = read_vnnlib(declarations(1, 0) + assertions, "test");
  REQUIRE(s.disjuncts.size() == 1);
  return s.disjuncts[0].box[0];
}

std::string complaint(std::string const& text, hull::io::vnnlib_limits const& limits = {}) {
  try {
    (void)read_vnnlib(text, "f", limits);
  } catch (hull::error const& e) {
    std::string const what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    CHECK(e.kind() == hull::fault::input);
    return what;
  }
  return "no error";
}

/// The complaint about one assertion on the second line, over X_0 in [0, 1], Y_0 and Y_1.
std::string assertion_complaint(std::string const& assertion) {
  auto text = declarations(1, 2);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return complaint(text + "(assert (<= 0 X_0 1))\n" + assertion);
}

using list = std::vector<std::pair<std::size_t, double>>;
list pairs(std::vector<hull::term> const& terms) {
  list result;
  for (auto const& t : terms) result.emplace_back(t.index, t.coefficient);
  return result;
}

}  // namespace

TEST_CASE("a plain robustness query") {
  auto const s = on_unit_box("; a comment\n(assert (or\n\t(and (>= Y_1 Y_0))\r\n (and (>= Y_0 3.5e0))))");
  CHECK(std::tuple(s.inputs, s.outputs, s.disjuncts.size(), s.source) == std::tuple(2u, 2u, 2u, "test"));
  CHECK(s.disjuncts[1].box[1].lower == 0);
  CHECK(s.disjuncts[1].box[1].upper == 1);
  auto const& first = s.disjuncts[0].constraints.at(0);  // Y_0 - Y_1 <= 0
  CHECK(pairs(first.outputs) == list{{0, 1}, {1, -1}});
  CHECK(first.inputs.empty());
  CHECK_FALSE(first.strict);
  auto const& second = s.disjuncts[1].constraints.at(0);  // 3.5 - Y_0 <= 0
  CHECK(pairs(second.outputs) == list{{0, -1}});
  CHECK(second.constant == 3.5);
}

TEST_CASE("linear arithmetic is brought to one form") {
  auto const c = only_constraint("(< (+ Y_1 (* 2 (- X_0 Y_0) 3) (- 4)) (- (* X_1 0.5) 1 Y_1))");
  CHECK(pairs(c.outputs) == list{{0, -6}, {1, 2}});  // Y_1 + 6 X_0 - 6 Y_0 - 4 - 0.5 X_1 + 1 + Y_1 < 0
  CHECK(pairs(c.inputs) == list{{0, 6}, {1, -0.5}});
  CHECK(c.constant == -3);
  CHECK(c.strict);
  CHECK(pairs(only_constraint("(<= (+ Y_0 Y_1 (- Y_0)) 0)").outputs) == list{{1, 1}});
  CHECK(pairs(only_constraint("(<= (/ Y_0 4 2) 0)").outputs) == list{{0, 0.125}});
  CHECK(pairs(only_constraint("(>= (+ X_0 X_1) 1)").inputs) == list{{0, -1}, {1, -1}});
  CHECK(only_constraint("(<= Y_0 +1.5E+1)").constant == -15);
  CHECK(only_constraint("(<= Y_0 .5)").constant == -0.5);
  CHECK(std::signbit(only_constraint("(<= Y_0 -0.0)").constant) == false);
}

TEST_CASE("bounds of inputs are rounded outwards, and exactly where a double holds the number") {
  auto const tenth = range_of("(assert (and (>= X_0 0.1) (<= X_0 0.1)))");
  CHECK(tenth.upper == 0.1);  // the nearest double is above
  CHECK(tenth.lower == std::nextafter(0.1, 0));
  auto const negative = range_of("(assert (= X_0 (- 0.1)))");
  CHECK(negative.lower == -0.1);
  CHECK(negative.upper == std::nextafter(-0.1, 0));
  auto const exact = range_of("(assert (>= X_0 -0.029999999329447746276855468750))(assert (<= X_0 123456789.125))");
  CHECK(exact.lower == static_cast<double>(-0.03f));
  CHECK(exact.upper == 123456789.125);
  auto const small = range_of("(assert (and (>= X_0 -1e-999) (<= X_0 4e-320)))");
  CHECK(small.lower == -std::numeric_limits<double>::denorm_min());
  CHECK(small.upper >= 4e-320);
  auto const scaled = range_of("(assert (<= -1 (* -3 X_0) 1))");
  CHECK(scaled.upper == std::nextafter(1.0 / 3, 1));  // 1.0 / 3 is below a third
  CHECK(scaled.lower == -scaled.upper);
  auto const sum = range_of("(assert (and (<= 0 X_0) (<= X_0 (+ 0.1 0.2))))");
  CHECK(sum.upper >= 0.3);
  CHECK(sum.upper <= std::nextafter(0.1 + 0.2, 1));
}

TEST_CASE("bounds meet, and strict ones stay as constraints too") {
  auto const s = read_vnnlib(declarations(1, 0) +
                                 "(assert (>= X_0 -2))(assert (> X_0 -1))(assert (< 7 (* -1 (- X_0 9))))"
                                 "(assert (<= X_0 5))(assert (not (> X_0 6)))",
                             "test");
  auto const& d = s.disjuncts.at(0);
  CHECK(d.box[0].lower == -1);
  CHECK(d.box[0].upper == 2);
  REQUIRE(d.constraints.size() == 2);
  CHECK(d.constraints[0].strict);
  CHECK(pairs(d.constraints[0].inputs) == list{{0, -1}});
  CHECK(d.constraints[0].constant == -1);
  CHECK(pairs(d.constraints[1].inputs) == list{{0, 1}});
  CHECK(d.constraints[1].constant == -2);
}

TEST_CASE("boxes per disjunct, cut with the common one") {
  auto const s =
      read_vnnlib(declarations(2, 1) +
                      "(assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 1)) (and (>= X_0 2) (<= X_0 9) (>= Y_0 4))"
                      "            (and (>= X_0 6) (<= X_0 7))))(assert (<= -1 X_1 1))(assert (<= X_0 5))",
                  "test");
  REQUIRE(s.disjuncts.size() == 2);  // [6, 7] does not meet X_0 <= 5
  CHECK(s.disjuncts[0].box[0].upper == 1);
  CHECK(s.disjuncts[1].box[0].lower == 2);
  CHECK(s.disjuncts[1].box[0].upper == 5);
  CHECK(s.disjuncts[1].box[1].lower == -1);
}

TEST_CASE("coefficients that are no doubles still bound outwards") {
  auto const r = range_of("(assert (<= 0.1 (* 0.1 X_0) 0.3))");  // [1, 3]
  CHECK(r.lower <= 1);
  CHECK(r.upper >= 3);
  CHECK(r.upper - r.lower < 2.000001);
}

TEST_CASE("several or assertions multiply, contradictory combinations vanish") {
  auto const s =
      on_unit_box("(assert (or (<= X_0 0.25) (>= X_0 0.75)))(assert (or (<= X_0 0.125) (<= Y_0 Y_1) (<= Y_1 5)))");
  REQUIRE(s.disjuncts.size() == 5);  // X_0 <= 0.125 and X_0 >= 0.75 cannot be
  CHECK(s.disjuncts[0].box[0].upper == 0.125);
  CHECK(s.disjuncts[3].box[0].lower == 0.75);
  CHECK(s.disjuncts[4].constraints.at(0).constant == -5);
}

TEST_CASE("nested and, or, not, = spread as the laws of logic say") {
  auto const count = [](std::string const& assertion) {
    return on_unit_box("(assert " + assertion + ")").disjuncts.size();
  };
  CHECK(count("(or (<= Y_0 0) (or (<= Y_1 0) (or (<= Y_1 1) (<= Y_1 2))))") == 4);
  CHECK(count("(and (or (<= Y_0 0) (<= Y_1 0)) (and (<= Y_0 1) (or (<= Y_0 2) (<= Y_0 3) (<= Y_0 4))))") == 6);
  CHECK(count("(or (and (<= Y_0 0) (or (<= Y_1 0) (<= Y_1 1))) (<= Y_1 7))") == 3);
  CHECK(count("(not (or (<= Y_0 0) (<= Y_1 0)))") == 1);
  CHECK(count("(not (and (<= Y_0 0) (not (>= Y_1 0))))") == 2);
  CHECK(count("(= Y_0 Y_1)") == 1);
  CHECK(count("(not (= Y_0 Y_1))") == 2);
  CHECK(count("(or (<= Y_0 0) (<= 1 0) false)") == 1);
  CHECK(count("(or (<= Y_0 0) (<= 0 1))") == 1);
  CHECK(on_unit_box("(assert (or (<= Y_0 0) true))").disjuncts[0].constraints.empty());
  auto const equal = on_unit_box("(assert (= Y_0 2))").disjuncts[0].constraints;
  REQUIRE(equal.size() == 2);
  CHECK(equal[0].constant == -2);
  CHECK(equal[1].constant == 2);
  auto const different = on_unit_box("(assert (not (<= Y_0 2)))").disjuncts[0].constraints;
  CHECK(different.at(0).strict);
  CHECK(pairs(different[0].outputs) == list{{0, -1}});
}

TEST_CASE("one or of many disjuncts is linear") {
  std::string text = declarations(1, 1) + "(assert (<= 0 X_0 1))(assert (or";
  for (int i = 0; i < 20'000; ++i) text += " (and (>= X_0 0.25) (<= X_0 0.5) (<= Y_0 " + std::to_string(i) + "))";
  auto const s = read_vnnlib(text + "))", "test");
  REQUIRE(s.disjuncts.size() == 20'000);
  CHECK(s.disjuncts[19'999].constraints.at(0).constant == -19'999);
}

TEST_CASE("commands around the assertions, and a specification over X alone") {
  auto const s = read_vnnlib(
      "\xef\xbb\xbf(set-logic QF_LRA)(set-info :source |two\nlines (|)(set-option :x \"(\")(declare-fun X_0 () Real)"
      "(declare-const Y_0 Real)(assert (<= 0 X_0 1))(check-sat)(get-model)(exit)\n; end",
      "test");
  CHECK(std::tuple(s.inputs, s.outputs, s.disjuncts.size()) == std::tuple(1u, 1u, 1u));
  CHECK(s.disjuncts[0].constraints.empty());
}

TEST_CASE("messages name the place, what was found and what was expected") {
  CHECK(assertion_complaint("(assert (<= Y_0 Y_7))") ==
        "f:2:17: found 'Y_7', expected a variable that was declared before");
  CHECK(assertion_complaint("(assert (<= Y_0 Z))") ==
        "f:2:17: found 'Z', expected a number, X_i, Y_i or '(' and one of + - * /");
  CHECK(assertion_complaint("(assert (<= (* Y_0 X_0) 1))") ==
        "f:2:20: found a product of two variables, expected a linear expression");
  CHECK(assertion_complaint("(assert (<= (/ 1 X_0) 1))") ==
        "f:2:18: found a variable in a divisor, expected a linear expression");
  CHECK(assertion_complaint("(assert (<= (/ X_0 (- 1 1)) 1))") ==
        "f:2:20: found a divisor that may be zero, expected a number that is not");
  CHECK(assertion_complaint("(assert (=> Y_0 1))") == "f:2:10: found '=>', expected one of <= >= < > = and or not");
  CHECK(assertion_complaint("(assert Y_0)") == "f:2:9: found 'Y_0', expected '(' and one of <= >= < > = and or not");
  CHECK(assertion_complaint("(assert (<= Y_0 1.2.3))") == "f:2:17: found '1.2.3', expected a decimal number");
  CHECK(assertion_complaint("(assert (<= Y_0 -1e))") == "f:2:17: found '-1e', expected a decimal number");
  CHECK(assertion_complaint("(assert (<= Y_0 1e400))") ==
        "f:2:17: found '1e400', expected a number that a double can hold");
  CHECK(assertion_complaint("(assert (<= Y_0 (* 1e200 1e200)))") ==
        "f:2:18: found an overflow, expected numbers that a double can hold");
  CHECK(assertion_complaint("(assert (<= (* 1e-200 X_0) 1e200))") ==
        "f:2:10: found an overflow, expected numbers that a double can hold");
  for (std::string const word : {"nan", "inf", "-inf", "-X_0", "X_00", "X_", "Y_-1", "X_99999999999999999999"}) {
    CHECK(assertion_complaint("(assert (<= Y_0 " + word + "))").rfind("f:2:17: found '" + word + "', expected a", 0) ==
          0);
  }
  CHECK(assertion_complaint("(assert (<= Y_0") ==
        "f:2:16: found the end of the file, expected a number, X_i, Y_i or '(' and one of + - * /");
  CHECK(assertion_complaint("(assert (<= Y_0 1)") == "f:2:19: found the end of the file, expected ')'");
  CHECK(assertion_complaint("(assert (<= Y_0 1)))") == "f:2:20: found ')', expected '(' and a command");
  CHECK(assertion_complaint("(assert (<= Y_0))") ==
        "f:2:16: found ')', expected a number, X_i, Y_i or '(' and one of + - * /");
  CHECK(assertion_complaint("(assert (or))") == "f:2:12: found ')', expected '(' and one of <= >= < > = and or not");
  CHECK(assertion_complaint("(assert (<= Y_0 \x01))") == "f:2:17: found byte 1, expected printable ASCII");
  CHECK(assertion_complaint("(push 1)") == "f:2:2: found 'push', expected declare-const or assert");
  CHECK(assertion_complaint("(exit)(assert (<= Y_0 1))") == "f:2:7: found '(', expected nothing after (exit)");
  CHECK(assertion_complaint("(set-info \"a") == "f:2:11: found a quotation that does not end, expected a second \"");
  CHECK(assertion_complaint("(declare-const X_0 Real)") ==
        "f:2:16: found 'X_0', expected each variable to be declared once");
  CHECK(assertion_complaint("(declare-const X_1 Int)") == "f:2:20: found 'Int', expected Real");
  CHECK(assertion_complaint("(declare-const Q Real)") ==
        "f:2:16: found 'Q', expected a variable named X_i or Y_i, i = 0, 1, 2, ...");
  CHECK(assertion_complaint("(declare-const X_5000 Real)") ==
        "f:2:16: found 'X_5000', expected variables numbered from 0 without a gap");
  CHECK(assertion_complaint("(declare-const X_2 Real)") ==
        "f:2:16: found X_2 declared but not X_1, expected variables numbered from 0 without a gap");
  CHECK(complaint("") == "f:1:1: found the end of the file, expected a declaration (declare-const X_0 Real)");
}

TEST_CASE("boxes must be finite and not inverted") {
  CHECK(complaint(declarations(2, 1) + "(assert (<= 0 X_0 1))(assert (>= X_1 0))") ==
        "f:2:16: found no upper bound of X_1, expected finite bounds on every input");
  CHECK(complaint(declarations(1, 1) + "(assert (or (<= 0 X_0 1) (<= X_0 1)))") ==
        "f:1:16: found no lower bound of X_0 in disjunct 2, expected finite bounds on every input");
  std::string const inverted = " found lower bound 2 above upper bound 1 of X_0, expected a box that is not inverted";
  CHECK(complaint(declarations(1, 1) + "(assert (>= X_0 2))\n(assert (<= X_0 1))") == "f:4:10:" + inverted);
  CHECK(complaint(declarations(1, 1) + "(assert (or (<= Y_0 1) (and (>= X_0 2)\n(<= X_0 1))))(assert (<= 0 X_0 1))") ==
        "f:4:2:" + inverted);
  CHECK(complaint(declarations(1, 1) + "(assert (<= 0 X_0 1))(assert (or (>= X_0 2) (<= X_0 -1)))") ==
        "f:1:1: found assertions that contradict each other for every input, expected a box that is not empty");
  CHECK(complaint(declarations(1, 1) + "(assert (<= 0 X_0 1))(assert (< 1 1))") ==
        "f:1:1: found assertions that contradict each other for every input, expected a box that is not empty");
}

TEST_CASE("VNN-LIB 2.0 is named") {
  std::string const refused = "found VNN-LIB 2.0, which is not supported yet, expected VNN-LIB 1.0";
  CHECK(complaint("; title\n(vnnlib-version <2.0>)\n(declare-network f") == "f:2:2: " + refused);
  CHECK(complaint("(declare-network f (declare-input X Real [3]))") == "f:1:2: " + refused);
}

TEST_CASE("adversarial texts are refused quickly") {
  std::string deep(100'000, '(');
  CHECK(complaint(deep).rfind("f:1:2: found '(', expected declare-const", 0) == 0);
  auto const nested = [](std::string text, std::string const& open) {
    for (int i = 0; i < 100'000; ++i) text += open;
    return assertion_complaint(text);
  };
  std::string const too_deep = "expected at most 256 nested parentheses";
  for (std::string const open : {"(and ", "(or (<= Y_0 0) ", "(not "}) {
    CHECK(nested("(assert ", open).find(too_deep) != std::string::npos);
  }
  for (std::string const open : {"(+ ", "(- Y_0 ", "(* 2 ", "(/ "}) {
    CHECK(nested("(assert (<= ", open).find(too_deep) != std::string::npos);
  }
  CHECK(assertion_complaint("(assert (<= Y_0 " + std::string(5000, '1') + "))")
            .find("found a number of 5000 characters, expected at most 1024") != std::string::npos);

  std::string product = declarations(1, 2) + "(assert (<= 0 X_0 1))";
  for (int i = 0; i < 2000; ++i) product += "(assert (or (<= Y_0 1) (<= Y_1 1)))";
  CHECK(complaint(product).find("found and/or that spread to more than") != std::string::npos);
  CHECK(complaint(product, {.disjuncts = 1000}) ==
        "f:1:1: found and/or that spread to more than 1000 disjuncts, expected fewer");
  std::string wide = declarations(1000, 1) + "(assert (or";
  for (int i = 0; i < 100; ++i) wide += " (<= Y_0 1)";
  CHECK(complaint(wide + "))", {.bytes = 1 << 20}) ==
        "f:1:1: found and/or that spread to more than 1 MiB of boxes and constraints, expected less");
}
