// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <map>
#include <string>
#include <vector>

#include <hull/io/evaluate.hpp>

using reals = std::vector<double>;
using attributes = std::map<std::string, std::vector<std::int64_t>>;

namespace {

/// Applies one operator without parameters to a tensor.
reals apply(std::string const& op, hull::io::shape const& in, hull::io::shape const& out, reals const& x,
            attributes const& with = {}) {
  hull::io::model m;
  m.nodes = {{"Input", "", {}, in, {}, ""}, {op, "", {0}, out, with, ""}};
  return hull::io::evaluate(m, x);
}

/// Applies one operator with a single parameter.
reals apply_with(std::string const& op, hull::io::shape const& dims, reals const& x, std::string const& key,
                 hull::io::tensor const& parameter) {
  hull::io::model m;
  m.nodes = {{"Input", "", {}, dims, {}, ""}, {op, "n", {0}, dims, {}, ""}};
  m.parameters["n." + key] = parameter;
  return hull::io::evaluate(m, x);
}

}  // namespace

TEST_CASE("evaluate: activations") {
  CHECK(apply("Relu", {3}, {3}, {-1, 0, 2}) == reals{0, 0, 2});
  CHECK(apply("Neg", {2}, {2}, {-1, 2}) == reals{1, -2});
  CHECK(apply("Tanh", {1}, {1}, {0.5}) == reals{std::tanh(0.5)});
  CHECK(apply("Sigmoid", {3}, {3}, {0, -1000, 1000}) == reals{0.5, 0, 1});
  CHECK(apply("Identity", {1}, {1}, {3}) == reals{3});
  CHECK(apply("Dropout", {1}, {1}, {3}) == reals{3});
  CHECK(apply_with("LeakyRelu", {2}, {-2, 2}, "alpha", {{1}, {0.5f}}) == reals{-1, 2});
}

TEST_CASE("evaluate: constants") {
  hull::io::tensor const k{{2}, {2, 4}};
  CHECK(apply_with("Add", {2}, {1, 1}, "constant", k) == reals{3, 5});
  CHECK(apply_with("Sub", {2}, {1, 1}, "constant", k) == reals{-1, -3});
  CHECK(apply_with("Mul", {2}, {1, 3}, "constant", k) == reals{2, 12});
  CHECK(apply_with("Div", {2}, {1, 3}, "constant", k) == reals{0.5, 0.75});
}

TEST_CASE("evaluate: structure moves elements") {
  reals const x{1, 2, 3, 4, 5, 6};
  CHECK(apply("Flatten", {2, 3}, {6}, x) == x);
  CHECK(apply("Transpose", {2, 3}, {3, 2}, x, {{"perm", {1, 0}}}) == reals{1, 4, 2, 5, 3, 6});
  CHECK(apply("Transpose", {1, 2, 3}, {3, 1, 2}, x, {{"perm", {2, 0, 1}}}) == reals{1, 4, 2, 5, 3, 6});
  CHECK(apply("Slice", {2, 3}, {2, 2}, x, {{"axis", {1}}, {"start", {0}}, {"end", {3}}, {"step", {2}}}) ==
        reals{1, 3, 4, 6});
  CHECK(apply("Slice", {2, 3}, {1, 3}, x, {{"axis", {0}}, {"start", {1}}, {"end", {2}}, {"step", {1}}}) ==
        reals{4, 5, 6});
  CHECK(apply("Upsample", {1, 2, 2}, {1, 2, 6}, {1, 2, 3, 4}, {{"by", {1, 3}}}) ==
        reals{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4});
  CHECK(apply("Spread", {1, 2, 2}, {1, 3, 2}, {1, 2, 3, 4}, {{"by", {2, 1}}}) == reals{1, 2, 0, 0, 3, 4});
}

TEST_CASE("evaluate: operators with two operands") {
  hull::io::model m;
  m.nodes = {{"Input", "", {}, {2, 2}, {}, ""},
             {"Neg", "", {0}, {2, 2}, {}, ""},
             {"Sub", "", {0, 1}, {2, 2}, {}, ""},
             {"Concat", "", {2, 0}, {2, 4}, {{"axis", {1}}}, ""}};
  CHECK(hull::io::evaluate(m, reals{1, 2, 3, 4}) == reals{2, 4, 1, 2, 6, 8, 3, 4});
  auto const all = hull::io::evaluate_all(m, reals{1, 2, 3, 4});
  REQUIRE(all.size() == 4);
  CHECK(all[1] == reals{-1, -2, -3, -4});
}

TEST_CASE("evaluate: pools") {
  reals const x{1, 2, 3, 4, 5, 6, 7, 8, 9};
  attributes const window{{"kernel", {2, 2}}, {"stride", {2, 2}}, {"pad", {1, 1, 0, 0}}};
  attributes excluding = window;
  excluding["exclude_pad"] = {1};
  CHECK(apply("MaxPool", {1, 3, 3}, {1, 2, 2}, x, window) == reals{1, 3, 7, 9});
  CHECK(apply("AveragePool", {1, 3, 3}, {1, 2, 2}, x, window) == reals{0.25, 1.25, 2.75, 7});
  CHECK(apply("AveragePool", {1, 3, 3}, {1, 2, 2}, x, excluding) == reals{1, 2.5, 5.5, 7});
  CHECK(apply("GlobalAveragePool", {1, 3, 3}, {1, 1, 1}, x) == reals{5});
  CHECK(apply("MaxPool", {1, 3, 3}, {1, 1, 1}, x, {{"kernel", {2, 2}}, {"dilation", {2, 2}}}) == reals{9});
}

TEST_CASE("evaluate: convolution agrees with its definition") {
  // Two groups, stride, dilation and unequal padding; small integers, so that every sum is exact.
  hull::io::model m;
  m.nodes = {{"Input", "", {}, {2, 4, 5}, {}, ""},
             {"Conv",
              "c",
              {0},
              {4, 2, 3},
              {{"channels", {4}},
               {"kernel", {2, 2}},
               {"stride", {2, 2}},
               {"pad", {1, 0, 0, 2}},
               {"dilation", {2, 1}},
               {"groups", {2}}},
              ""}};
  hull::io::tensor weight{{4, 1, 2, 2}, {}};
  for (int i = 0; i < 16; ++i) weight.values.push_back(static_cast<float>((i * 7) % 5 - 2));
  m.parameters["c.weight"] = weight;
  m.parameters["c.bias"] = {{4}, {1, 2, 3, 4}};
  reals x;
  for (int i = 0; i < 40; ++i) x.push_back((i * 11) % 7 - 3);
  reals expected;
  for (int o = 0; o < 4; ++o) {
    for (int oh = 0; oh < 2; ++oh) {
      for (int ow = 0; ow < 3; ++ow) {
        double sum = o + 1;
        for (int kh = 0; kh < 2; ++kh) {
          for (int kw = 0; kw < 2; ++kw) {
            int const row = oh * 2 + kh * 2 - 1, column = ow * 2 + kw;
            if (row < 0 || row >= 4 || column >= 5) continue;
            sum += static_cast<double>(weight.values[static_cast<std::size_t>(o * 4 + kh * 2 + kw)]) *
                   x[static_cast<std::size_t>((o / 2) * 20 + row * 5 + column)];
          }
        }
        expected.push_back(sum);
      }
    }
  }
  CHECK(hull::io::evaluate(m, x) == expected);
}

TEST_CASE("evaluate: Linear and BatchNormalization") {
  hull::io::model m;
  m.nodes = {{"Input", "", {}, {2}, {}, ""},
             {"Linear", "fc1", {0}, {2}, {{"features", {2}}}, ""},
             {"BatchNormalization", "bn1", {1}, {2}, {}, ""}};
  m.parameters["fc1.weight"] = {{2, 2}, {1, 2, 3, 4}};
  m.parameters["fc1.bias"] = {{2}, {10, 20}};
  m.parameters["bn1.scale"] = {{2}, {2, 1}};
  m.parameters["bn1.bias"] = {{2}, {0, 1}};
  m.parameters["bn1.mean"] = {{2}, {1, 7}};
  m.parameters["bn1.variance"] = {{2}, {3.75f, 0.75f}};
  m.parameters["bn1.epsilon"] = {{1}, {0.25f}};
  CHECK(hull::io::evaluate(m, reals{1, 1}) == reals{12, 21});
}

TEST_CASE("evaluate: refuses inputs of the wrong size and unknown operators") {
  CHECK_THROWS_WITH_AS(static_cast<void>(apply("Relu", {3}, {3}, {1, 2})),
                       ": the input has 2 values, the network expects 3", hull::error);
  CHECK_THROWS_WITH_AS(static_cast<void>(apply("Sign", {1}, {1}, {1})), ": operator Sign cannot be evaluated",
                       hull::error);
}
