// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <limits>
#include <string>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/counterexample.hpp>
#include <hull/io/vnnlib.hpp>

namespace {

using values = std::vector<double>;

hull::specification read(std::string const& assertions) {
  return hull::io::read_vnnlib(
      "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
      "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 -1) (<= X_1 1)))" +
          assertions,
      "test");
}

}  // namespace

TEST_CASE("the text has VNN-COMP's format and 17 digits") {
  CHECK(hull::io::counterexample_text(values{0.1, -2}, values{1e-300}) ==
        "((X_0 0.10000000000000001)\n (X_1 -2)\n (Y_0 1e-300))");
  auto const third = 1.0 / 3;
  auto const text = hull::io::counterexample_text(values{third}, values{});
  CHECK(std::stod(text.substr(6)) == third);
}

TEST_CASE("membership has no tolerance") {
  auto const s = read("(assert (<= Y_0 Y_1))");
  auto const after = [](double x) { return std::nextafter(x, 9.0); };
  CHECK(hull::io::satisfies(s, values{0, -1}, values{2, 2}));
  CHECK(hull::io::satisfies(s, values{1, 1}, values{2, 3}));
  CHECK_FALSE(hull::io::satisfies(s, values{after(1), 1}, values{2, 3}));
  CHECK_FALSE(hull::io::satisfies(s, values{1, 1}, values{after(2), 2}));
}

TEST_CASE("strict constraints are checked strictly, on inputs too") {
  auto const outputs = read("(assert (< Y_0 Y_1))");
  CHECK_FALSE(hull::io::satisfies(outputs, values{0, 0}, values{2, 2}));
  CHECK(hull::io::satisfies(outputs, values{0, 0}, values{1, 2}));
  auto const inputs = read("(assert (< X_0 0.5))");
  CHECK(inputs.disjuncts[0].box[0].upper == 0.5);
  CHECK_FALSE(hull::io::satisfies(inputs, values{0.5, 0}, values{0, 0}));
  CHECK(hull::io::satisfies(inputs, values{0.25, 0}, values{0, 0}));
}

TEST_CASE("any disjunct is enough, and mixed constraints see both sides") {
  auto const s = read("(assert (or (and (<= X_0 0.5) (>= Y_0 X_1)) (>= Y_1 (+ (* 2 X_0) 1))))");
  CHECK(hull::io::satisfies(s, values{0.25, 0.5}, values{0.5, 0}));
  CHECK_FALSE(hull::io::satisfies(s, values{0.75, 0.5}, values{0.5, 0}));
  CHECK(hull::io::satisfies(s, values{0.75, 0.5}, values{0.5, 2.5}));
}

TEST_CASE("NaN and infinities do not satisfy by accident") {
  auto const nan = std::numeric_limits<double>::quiet_NaN();
  auto const infinity = std::numeric_limits<double>::infinity();
  auto const s = read("(assert (<= Y_0 Y_1))");
  CHECK_FALSE(hull::io::satisfies(s, values{nan, 0}, values{0, 1}));
  CHECK_FALSE(hull::io::satisfies(s, values{0, 0}, values{nan, 1}));
  CHECK_FALSE(hull::io::satisfies(s, values{0, 0}, values{infinity, infinity}));
  auto const one = read("(assert (<= Y_0 0))");
  CHECK_FALSE(hull::io::satisfies(one, values{0, 0}, values{-1, nan}));
}

TEST_CASE("sizes have to agree") {
  auto const s = read("(assert (<= Y_0 Y_1))");
  CHECK_THROWS_WITH_AS((void)hull::io::satisfies(s, values{0}, values{0, 0}), "satisfies: found 1 inputs, expected 2",
                       hull::error);
  CHECK_THROWS_WITH_AS((void)hull::io::satisfies(s, values{0, 0}, values{0}), "satisfies: found 1 outputs, expected 2",
                       hull::error);
}
