// SPDX-License-Identifier: Apache-2.0
// Chord and tangent hold for a convex function whatever slope they are given.
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>

#include <hull/relax/convex.hpp>

using namespace hull;

namespace {

// x^2: convex, and both it and its derivative are easy to enclose.
interval<double> square(double t) { return {down::mul(t, t), up::mul(t, t)}; }
interval<double> twice(double t) { return {2 * t, 2 * t}; }

}  // namespace

TEST_CASE("chord above, tangent below a convex function, for good and bad slopes") {
  std::mt19937 engine(5);
  std::uniform_real_distribution<double> unit(0, 1);
  long above = 0;
  long below = 0;
  long concave = 0;
  for (int i = 0; i < 100000; ++i) {
    double const scale = std::exp(40 * unit(engine) - 20);
    float const a = static_cast<float>(scale * (2 * unit(engine) - 1));
    float const b = static_cast<float>(static_cast<double>(a) + scale * unit(engine));
    if (!(a < b)) continue;
    interval<float> const box{a, b};
    interval<double> const wide = widen(box);
    interval<double> const at_a = square(wide.lower);
    interval<double> const at_b = square(wide.upper);
    double const p = wide.lower + unit(engine) * (wide.upper - wide.lower);
    double const bend = i % 2 == 0 ? 1 : 1 + 0.1 * (unit(engine) - 0.5);  // half of the slopes are off by some percent
    float const chord = nearest_slope(static_cast<double>(chord_slope(box, at_a, at_b)) * bend);
    float const tangent = nearest_slope(2 * p * bend);
    double const top = chord_rest(box, at_a, at_b, chord).upper;
    double const bottom = tangent_rest(wide, p, square(p), twice(p), tangent);
    double const negated = chord_rest(box, -at_a, -at_b, -chord).lower;  // -x^2 is concave
    for (double share : {0.0, 0.01, 0.5, 0.77, 1.0}) {
      long double const t = wide.lower + share * (wide.upper - wide.lower);
      if (t > wide.upper) continue;
      long double const f = t * t;
      long double const slack = 0x1p-60L * (f + std::fabs(chord * t) + std::fabs(tangent * t));
      above += chord * t + top < f - slack;
      below += tangent * t + bottom > f + slack;
      concave += -chord * t + negated > -f + slack;
    }
  }
  CHECK(above == 0);
  CHECK(below == 0);
  CHECK(concave == 0);
}

TEST_CASE("a tangent with its own slope touches the function") {
  double const bias = tangent_rest({0, 4}, 1.5, square(1.5), twice(1.5), 3);
  CHECK(bias == -2.25);
}

TEST_CASE("slopes are finite") {
  float const largest = std::numeric_limits<float>::max();
  CHECK(nearest_slope(1e300) == largest);
  CHECK(nearest_slope(-1e300) == -largest);
  CHECK(nearest_slope(0.25) == 0.25f);
}

TEST_CASE("lines that say nothing are infinite on both sides") {
  lines<float> const r = unknown_lines();
  CHECK(r.lower.bias == -std::numeric_limits<float>::infinity());
  CHECK(r.upper.bias == std::numeric_limits<float>::infinity());
  CHECK(r.lower.slope == 0);
}
