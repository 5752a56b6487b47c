// SPDX-License-Identifier: Apache-2.0
// Linear programs over a box: multipliers are feasible, and what they bound is the minimum, as found by trying all
// vertices.
#include <array>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>

#include <hull/search/box_program.hpp>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct planar final {
  std::vector<double> reach;
  std::vector<float> c;
  double constant;
  std::vector<std::vector<float>> g;
  std::vector<double> h;

  explicit planar(random_engine& random)
      : reach(2), c(2), constant(uniform(random, -1, 1)), g(random() % 7), h(g.size()) {
    for (double& r : reach) r = uniform(random, 0.2, 2);
    for (float& x : c) x = static_cast<float>(uniform(random, -1, 1));
    if (random() % 5 == 0) c[0] = 0;
    for (std::size_t j = 0; j < g.size(); ++j) {
      for (std::size_t i = 0; i < 2; ++i) g[j].push_back(static_cast<float>(uniform(random, -1, 1)));
      if (j > 0 && random() % 6 == 0) g[j] = {-g[0][0], -g[0][1]};  // parallel
      h[j] = uniform(random, -0.8, 0.8);
    }
  }

  /// Over all crossings of two lines, the sides of the box included. +infinity if no point is feasible.
  [[nodiscard]] double least() const {
    std::vector<std::array<double, 3>> lines;  // a x + b y + d = 0
    for (std::size_t j = 0; j < g.size(); ++j) lines.push_back({g[j][0], g[j][1], h[j]});
    for (double const side : {-1.0, 1.0}) {
      lines.push_back({1, 0, side * reach[0]});
      lines.push_back({0, 1, side * reach[1]});
    }
    double best = std::numeric_limits<double>::infinity();
    for (auto const& p : lines) {
      for (auto const& q : lines) {
        double const det = p[0] * q[1] - p[1] * q[0];
        if (std::fabs(det) < 1e-12) continue;
        double const x = (p[1] * q[2] - p[2] * q[1]) / det, y = (p[2] * q[0] - p[0] * q[2]) / det;
        bool inside = std::fabs(x) <= reach[0] + 1e-9 && std::fabs(y) <= reach[1] + 1e-9;
        for (std::size_t j = 0; j < g.size(); ++j) inside = inside && g[j][0] * x + g[j][1] * y + h[j] <= 1e-9;
        if (inside) best = std::min(best, constant + c[0] * x + c[1] * y);
      }
    }
    return best;
  }

  [[nodiscard]] double bound(std::vector<double> const& multipliers) const {
    double result = constant;
    std::vector<double> total(c.begin(), c.end());
    for (std::size_t j = 0; j < g.size(); ++j) {
      result += multipliers[j] * h[j];
      for (std::size_t i = 0; i < 2; ++i) total[i] += multipliers[j] * g[j][i];
    }
    for (std::size_t i = 0; i < 2; ++i) result -= std::fabs(total[i]) * reach[i];
    return result;
  }
};

}  // namespace

TEST_CASE("multipliers of small programs are the best there are") {
  random_engine random(5);
  std::size_t infeasible = 0, wrong = 0, negative = 0, off_point = 0;
  for (std::size_t n = 0; n < 5000; ++n) {
    planar const one(random);
    double const least = one.least(), far = 50;
    box_program program(one.reach, one.c, one.constant);
    for (std::size_t j = 0; j < one.g.size(); ++j) program.constrain(one.g[j], one.h[j]);
    bool const solvable = program.solve(far);
    auto const multipliers = program.multipliers(far);
    for (double const m : multipliers) negative += !(m >= 0);
    if (least == std::numeric_limits<double>::infinity()) {
      ++infeasible;
      wrong += solvable && one.bound(multipliers) < far - 1e-6;
      wrong += one.bound(multipliers) < 1;  // far above every value that the form takes
    } else {
      wrong += !solvable || std::fabs(one.bound(multipliers) - least) > 1e-7;
      auto const x = program.point();
      off_point += std::fabs(one.constant + one.c[0] * x[0] + one.c[1] * x[1] - least) > 1e-7;
    }
  }
  CHECK(infeasible > 100);
  CHECK(wrong == 0);
  CHECK(negative == 0);
  CHECK(off_point == 0);
}

TEST_CASE("a program without constraints is its box") {
  std::vector<double> const reach{1, 2};
  std::vector<float> const c{1, -3};
  box_program program(reach, c, 0.5);
  CHECK(program.solve(100));
  CHECK(program.multipliers(100).empty());
  CHECK(program.point() == std::vector<double>{-1, 2});
}
