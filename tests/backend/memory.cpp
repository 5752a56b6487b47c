// SPDX-License-Identifier: Apache-2.0
// A CPU machine that was asked for more memory than there is works on with less.
#include <cstddef>
#include <doctest/doctest.h>
#include <new>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/propagate/propagation.hpp>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct net final : decltype(Input<10> >> Linear<"a", 60> >> Relu >> Linear<"b", 70> >> Relu >> Linear<"c", 3>) {};
using machine = cpu::machine<net, Outward>;

std::vector<double> bounds_of(machine& on, box_type const& box) {
  propagation<net, machine> all(on, 0);
  std::vector<box_type const*> const boxes{&box};
  all.run(boxes, hidden_bounds::crown);
  linear_constraint const form{{{0, 1.0}, {2, -1.0}}, {}, 0.5, false};
  std::vector<row_form> const rows{{0, &form}};
  return all.lower_bounds(rows);
}

}  // namespace

TEST_CASE("memory that is not there: an error, and then the same machine works") {
  parameters<net> const weights(random_parameters<net>(1));
  random_engine random(2);
  auto const box = random_box(random, 10, 0.1);
  machine one(weights);
  auto const expected = bounds_of(one, box);
  CHECK_THROWS_AS(one.reserve(std::size_t{1} << 60), std::bad_alloc);
  CHECK(one.memory().capacity() == 0);
  CHECK(bounds_of(one, box) == expected);
}
