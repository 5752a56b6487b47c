// SPDX-License-Identifier: Apache-2.0
// A specification as boxes and rows.
#include <doctest/doctest.h>
#include <limits>
#include <string>

#include <hull/search/problem.hpp>

using namespace hull;

namespace {

using box_type = std::vector<input_range>;

disjunct one_case(box_type box, std::size_t rows) {
  disjunct d{std::move(box), {}};
  for (std::size_t r = 0; r < rows; ++r) d.constraints.push_back({{{r % 3, 1.0}}, {}, static_cast<double>(r), false});
  return d;
}

specification specified(std::vector<disjunct> cases) { return {2, 3, std::move(cases), "test"}; }

std::string refusal(specification const& spec) {
  try {
    problem const asked(spec, 2, 3);
  } catch (error const& e) {
    return e.what();
  }
  return {};
}

box_type const near{{0, 1}, {0, 1}}, far{{5, 6}, {5, 6}};

}  // namespace

TEST_CASE("disjuncts with equal boxes share one") {
  auto const spec = specified({one_case(near, 1), one_case(near, 2), one_case(near, 0), one_case(far, 3)});
  problem const asked(spec, 2, 3);
  CHECK(asked.disjuncts() == 4);
  CHECK(asked.boxes == std::vector<box_view>{&spec.disjuncts[0].box, &spec.disjuncts[3].box});
  CHECK(asked.disjunct_box == std::vector<std::size_t>{0, 0, 0, 1});
  CHECK(asked.first_row == std::vector<std::size_t>{0, 1, 3, 3, 6});
  for (std::size_t d = 0; d < 4; ++d) {
    for (std::size_t r = asked.first_row[d]; r < asked.first_row[d + 1]; ++r) {
      CHECK(asked.rows[r].disjunct == d);
      CHECK(asked.rows[r].box == asked.disjunct_box[d]);
      CHECK(asked.rows[r].form == &spec.disjuncts[d].constraints[r - asked.first_row[d]]);
    }
  }
}

TEST_CASE("a box for each disjunct") {
  auto const spec = specified({one_case(near, 1), one_case(far, 1), one_case(near, 1)});
  problem const asked(spec, 2, 3);
  CHECK(asked.boxes.size() == 3);
  CHECK(asked.disjunct_box == std::vector<std::size_t>{0, 1, 2});
}

TEST_CASE("nothing asked") {
  problem const asked(specified({}), 2, 3);
  CHECK(asked.disjuncts() == 0);
  CHECK(asked.rows.empty());
  CHECK(asked.first_row == std::vector<std::size_t>{0});
}

TEST_CASE("when a bound refutes a constraint") {
  linear_constraint const weak{{}, {}, 0, false}, strict{{}, {}, 0, true};
  double const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(refutes(1e-300, weak));
  CHECK(refutes(1e-300, strict));
  CHECK(!refutes(0, weak));
  CHECK(refutes(0, strict));  // form < 0 cannot hold
  CHECK(refutes(-0.0, strict));
  for (double const bound : {-1e-300, nan, -std::numeric_limits<double>::infinity()}) {
    CHECK(!refutes(bound, weak));
    CHECK(!refutes(bound, strict));
  }
}

TEST_CASE("what does not fit is refused") {
  auto spec = specified({one_case(near, 1)});
  CHECK(refusal(spec).empty());
  spec.inputs = 3;
  CHECK(refusal(spec) == "test: the specification has 3 inputs X, the network has 2");
  spec = specified({one_case(near, 1)});
  spec.outputs = 4;
  CHECK(refusal(spec) == "test: the specification has 4 outputs Y, the network has 3");
  CHECK(refusal(specified({one_case({{0, 1}}, 1)})) == "test: a box has not one range for each input X");
  CHECK(refusal(specified({one_case({{0, 1}, {1, 0}}, 1)})) == "test: a range of a box is empty");
  double const infinity = std::numeric_limits<double>::infinity();
  CHECK(refusal(specified({one_case({{0, 1}, {0, infinity}}, 1)})) == "test: a range of a box is not finite");
  CHECK(refusal(specified({one_case({{0, 1}, {std::nan(""), 1}}, 1)})) == "test: a range of a box is empty");
  spec = specified({one_case(near, 1)});
  spec.disjuncts[0].constraints[0].outputs[0].index = 3;
  CHECK(refusal(spec) == "test: a constraint names an output Y that is not there");
  spec = specified({one_case(near, 1)});
  spec.disjuncts[0].constraints[0].inputs = {{2, 1.0}};
  CHECK(refusal(spec) == "test: a constraint names an input X that is not there");
}
