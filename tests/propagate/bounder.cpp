// SPDX-License-Identifier: Apache-2.0
// The short way to bounds gives what the long way gives, and refuses what does not fit.
#include <doctest/doctest.h>
#include <limits>

#include <hull/hull.hpp>

using namespace hull;

namespace {

struct net final : decltype(Input<2> >> Linear<"fc1", 3> >> Relu >> Linear<"fc2", 2>) {};

parameter_table const numbers{{"fc1.weight", {1, 1, 1, -1, -1, 1}},
                              {"fc1.bias", {0, 0, 0}},
                              {"fc2.weight", {1, 2, 0, 1, 0, 2}},
                              {"fc2.bias", {0.5f, 0}}};

}  // namespace

TEST_CASE("box_around contains the exact box and refuses what is not finite") {
  auto const region = box_around({0.1f, -3}, 0.1);
  REQUIRE(region.size() == 2);
  long double const centre = 0.1f, radius = 0.1;  // exact in long double
  CHECK(static_cast<long double>(region[0].lower) <= centre - radius);
  CHECK(static_cast<long double>(region[0].upper) >= centre + radius);
  CHECK(region[1].lower <= -3.1);
  CHECK(box_around({}, 0).empty());
  CHECK_THROWS_AS(static_cast<void>(box_around({1}, -1)), error);
  CHECK_THROWS_AS(static_cast<void>(box_around({1}, std::numeric_limits<double>::quiet_NaN())), error);
  CHECK_THROWS_AS(static_cast<void>(box_around({std::numeric_limits<float>::infinity()}, 1)), error);
}

TEST_CASE("bounds of the bounder are those of a propagation") {
  auto const region = box_around({0.6f, 0.3f}, 0.2);
  parameters<net> const weights(numbers);
  cpu::machine<net, Outward> machine(weights);
  propagation<net, cpu::machine<net, Outward>> all(machine);
  auto const* const one = &region;
  linear_constraint const margin = margin_form(0, 1);
  row_form const row{0, &margin};

  cpu::bounder<net> bounds(numbers);
  for (int twice = 0; twice < 2; ++twice) {
    all.run({&one, 1}, hidden_bounds::crown);
    CHECK(bounds.crown(region, {margin}) == all.lower_bounds({&row, 1}));
    all.run({&one, 1}, hidden_bounds::interval);
    CHECK(bounds.ibp(region, {margin}) == all.interval_bounds({&row, 1}));
  }

  // y_0 - y_1 = 0.5 + 2 (x_0 - x_1) exactly, so at least 0.3 on the box
  CHECK(bounds.crown(region, {margin})[0] <= 0.3);
  CHECK(bounds.crown(region, {margin})[0] > bounds.ibp(region, {margin})[0]);
  CHECK(bounds.ibp(region, {}).empty());
}

TEST_CASE("intervals of the outputs hold both bounds") {
  auto const region = box_around({0.6f, 0.3f}, 0.2);
  cpu::bounder<net> bounds(numbers);
  cpu::bounder<net, Nearest> nearest(numbers);
  for (bool const crown : {false, true}) {
    auto const y = crown ? bounds.crown(region) : bounds.ibp(region);
    auto const z = crown ? nearest.crown(region) : nearest.ibp(region);
    auto const forms = std::vector<linear_constraint>{output_form(0), output_form(1)};
    auto const lower = crown ? bounds.crown(region, forms) : bounds.ibp(region, forms);
    REQUIRE(y.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(y[i].lower == lower[i]);
      CHECK(y[i].lower < y[i].upper);
      CHECK(y[i].lower == doctest::Approx(z[i].lower).epsilon(1e-5));
      CHECK(y[i].upper == doctest::Approx(z[i].upper).epsilon(1e-5));
    }
    // y = (2, 0.9) at the centre
    CHECK((contains(y[0], 2.0) && contains(y[1], 0.9)));
  }
}

TEST_CASE("what does not fit the network is refused") {
  cpu::bounder<net> bounds(numbers);
  auto const region = box_around({0.6f, 0.3f}, 0.2);
  double const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(static_cast<void>(bounds.crown(box_around({0.0f}, 1))),
                       "propagation: a box has 1 ranges, the network has 2 inputs", error);
  CHECK_THROWS_AS(static_cast<void>(bounds.ibp({{1, 0}, {0, 1}})), error);
  CHECK_THROWS_AS(static_cast<void>(bounds.ibp({{0, nan}, {0, 1}})), error);
  CHECK_THROWS_WITH_AS(static_cast<void>(bounds.crown(region, {output_form(2)})),
                       "bounder: a form names number 2 of the outputs, the network has 2", error);
  CHECK_THROWS_AS(static_cast<void>(bounds.crown(region, {{{{0, nan}}, {}, 0, false}})), error);
  CHECK_THROWS_AS(static_cast<void>(bounds.crown(region, {{{{0, 1}}, {{7, 1}}, 0, false}})), error);
  CHECK_THROWS_WITH_AS(cpu::bounder<net>(parameter_table{{"fc1.weight", {1, 2}}}),
                       "parameter fc1.weight has 2 values, the network expects 6", error);
}
