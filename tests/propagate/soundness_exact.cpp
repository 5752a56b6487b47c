// SPDX-License-Identifier: Apache-2.0
// Linear networks, where the exact minimum over a box can be had without rounding: bounds must not exceed it. Weights
// are chosen to make rounding errors large and to point all of them in one direction.
#include <algorithm>
#include <doctest/doctest.h>
#include <numeric>

#include "support/exact_sum.hpp"
#include "support/hard_sums.hpp"
#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct one_layer final : decltype(Input<2000> >> Linear<"a", 2>) {};

constexpr auto input = Input<1>;
struct fan final : decltype(Concat<0>(input, input >> Linear<"b", 4096>)) {};
struct fan_inside final : decltype(Concat<0>(input >> Linear<"a", 1>, input >> Linear<"a", 1> >> Linear<"b", 4096>)) {};

}  // namespace

TEST_CASE("exact sums") {
  exact_sum sum;
  sum.add(1e30).add(0x1p-149, 0x1p-149).add(-1e30);
  CHECK(sum.sign() == 1);
  CHECK(sum.at_least(0x1p-298));
  CHECK(!sum.at_least(0x1.0000001p-298));
  CHECK(sum.add(-0x1p-298).sign() == 0);
  CHECK(sum.add(3.0, -5.0, 7.0).at_least(-105));
  CHECK(!sum.at_least(std::nextafter(-105.0, 0.0)));
}

TEST_CASE("one layer of 2000 terms") {
  random_engine random(1);
  for (int round = 0; round < 20; ++round) {
    parameter_map p;
    p.tensors = {{"a.weight", cancelling(random, 4000)}, {"a.bias", cancelling(random, 2)}};
    auto const box = float_box(random, 2000, round % 4 == 0 ? 0 : std::ldexp(1, -round));
    std::vector<linear_constraint> forms(2);
    forms[0].outputs = {{0, 1.0}};
    forms[1].outputs = {{1, -1.0}};
    bounded<one_layer> bounds(p, {box}, hidden_bounds::crown);
    auto const rows = bounded<one_layer>::rows(forms, 1);
    auto const crown = bounds.all().lower_bounds(rows), interval = bounds.all().interval_bounds(rows);
    for (std::size_t o : {0u, 1u}) {
      float const direction = o == 0 ? 1.0f : -1.0f;
      exact_sum least;
      least.add(p.tensors["a.bias"][o], direction);
      for (std::size_t i = 0; i < 2000; ++i) {
        float const weight = p.tensors["a.weight"][o * 2000 + i] * direction;
        least.add(weight, least_end(box[i], weight > 0 ? 1 : -1));
      }
      CHECK(least.at_least(crown[o]));
      CHECK(least.at_least(interval[o]));
      CHECK(least.at_least(o == 0 ? bounds.stage(1).lower[0] : -bounds.stage(1).upper[1]));
      CHECK(!least.at_least(crown[o] + 1e-3 * std::fabs(crown[o]) + 1e4 * (round % 4 == 0 ? 0x1p-20 : 1)));  // and near
    }
  }
}

TEST_CASE("terms that cancel to less than double can tell") {
  random_engine random(4);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::size_t> order(1999);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    box_type box(2000, {1, 1});
    parameter_map p;
    auto& weight = p.tensors["a.weight"];
    weight.assign(4000, 0.0f);
    for (std::size_t i = 0; i + 1 < order.size(); i += 2) {  // pairs of opposite terms
      auto const w = static_cast<float>(std::ldexp(uniform(random, 1, 2), static_cast<int>(random() % 40)));
      auto const x = static_cast<float>(uniform(random, 1, 2));
      weight[order[i]] = w;
      weight[order[i + 1]] = -w;
      box[order[i]] = box[order[i + 1]] = {x, x};
    }
    p.tensors["a.bias"] = {0x1p-60f, 0};  // what is left
    bounded<one_layer> bounds(p, {box}, hidden_bounds::crown);
    std::vector<linear_constraint> const forms{{{{0, 1.0}}, {}, 0, false}, {{{0, -1.0}}, {}, 0, false}};
    auto const rows = bounded<one_layer>::rows(forms, 1);
    for (auto const& found : {bounds.all().lower_bounds(rows), bounds.all().interval_bounds(rows)}) {
      CHECK(found[0] <= 0x1p-60);
      CHECK(found[1] <= -0x1p-60);
      CHECK(found[0] > -1e3);  // a millionth of a millionth of the terms
    }
  }
}

TEST_CASE("two layers, one after the other") {
  random_engine random(2);
  for (int round = 0; round < 6; ++round) {
    auto const p = two_layers_parameters(random);
    auto const box = float_box(random, 60, std::ldexp(1, -3 * round));
    std::vector<linear_constraint> forms(1);
    forms[0].outputs = {{0, 1.0}};
    bounded<two_layers> bounds(p, {box}, hidden_bounds::crown);
    auto const crown = bounds.all().lower_bounds(bounded<two_layers>::rows(forms, 1));
    auto const least = two_layers_minimum(p, box);
    CHECK(std::isfinite(crown[0]));
    CHECK(least.at_least(crown[0]));
  }
}

// A coefficient of 1, to which another consumer adds 64 times half of the last place: every addition is lost.
TEST_CASE("additions by other consumers round what is there") {
  parameter_map p;
  p.tensors = {{"a.weight", {1}},
               {"a.bias", {0}},
               {"b.weight", std::vector<float>(4096, 0x1p-15f)},
               {"b.bias", std::vector<float>(4096, 0.0f)}};
  std::vector<linear_constraint> forms(2);
  for (std::size_t i = 0; i < 4096; ++i) {
    forms[0].outputs.push_back({i + 1, 0x1p-15});
    forms[1].outputs.push_back({i + 1, 0x1p-15});
  }
  forms[0].outputs.push_back({0, 1.0});
  forms[1].inputs.push_back({0, 1.0});
  double const exact = -1 - 0x1p-18;
  std::vector<box_type> const boxes{{{-1, 1}}};
  SUBCASE("at the input") {
    bounded<fan> bounds(p, boxes, hidden_bounds::crown);
    for (double const bound : bounds.all().lower_bounds(bounded<fan>::rows(forms, 1))) CHECK(bound <= exact);
  }
  SUBCASE("inside") {
    bounded<fan_inside> bounds(p, boxes, hidden_bounds::crown);
    CHECK(bounds.all().lower_bounds(bounded<fan_inside>::rows(forms, 1))[0] <= exact);
  }
}

// Weights of 30 bits, whose floats all err towards a larger minimum.
TEST_CASE("weights that the file had in more digits") {
  random_engine random(3);
  std::vector<double> a(60 * 700), b(700);
  auto const digits = [&](double x) { return x * (1 + 0x1p-25 + std::floor(uniform(random, 0, 8)) * 0x1p-29); };
  for (double& weight : a) weight = -digits(static_cast<float>(std::ldexp(1, static_cast<int>(random() % 9))));
  for (double& weight : b) weight = digits(static_cast<float>(std::ldexp(1, static_cast<int>(random() % 9))));
  parameter_map p;
  p.rounded = true;
  p.tensors = {{"a.weight", {a.begin(), a.end()}},
               {"a.bias", std::vector<float>(700, 0)},
               {"b.weight", {b.begin(), b.end()}},
               {"b.bias", {0}}};
  CHECK(-a[0] > -p.tensors["a.weight"][0]);
  for (float const radius : {0.0f, 0x1p-20f, 1.0f}) {
    box_type const box(60, {3 - radius, 3 + radius});
    std::vector<linear_constraint> forms(1);
    forms[0].outputs = {{0, 1.0}};
    bounded<two_layers> bounds(p, {box}, hidden_bounds::crown);
    auto const rows = bounded<two_layers>::rows(forms, 1);
    exact_sum least;
    for (std::size_t k = 0; k < 700; ++k) {
      for (std::size_t i = 0; i < 60; ++i) least.add(b[k], a[k * 60 + i], box[i].upper);
    }
    double const crown = bounds.all().lower_bounds(rows)[0];
    CHECK(least.at_least(crown));
    CHECK(!least.at_least(crown * (1 - 3e-5)));
    CHECK(least.at_least(bounds.all().interval_bounds(rows)[0]));
    CHECK(least.at_least(bounds.stage(2).lower[0]));
  }
}

TEST_CASE("terms of one element, named many times") {
  struct identity final : decltype(Input<1> >> Identity) {};
  std::vector<linear_constraint> forms(2);
  for (auto* terms : {&forms[0].outputs, &forms[1].inputs}) {
    terms->push_back({0, 1.0});
    terms->insert(terms->end(), 500, {0, 0x1p-24});  // each is lost when it is added
  }
  bounded<identity> bounds({}, {{{-1, 1}}}, hidden_bounds::crown);
  auto const rows = bounded<identity>::rows(forms, 1);
  for (double const bound : bounds.all().lower_bounds(rows)) CHECK(bound <= -1 - 500 * 0x1p-24);
  for (double const bound : bounds.all().interval_bounds(rows)) CHECK(bound <= -1 - 500 * 0x1p-24);
}
