// SPDX-License-Identifier: Apache-2.0
// Lines of S-shaped functions are tight: each touches its function, and has the slope that was meant.
// That they are sound is in tests/ops/pointwise_laws.cpp.
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <random>

#include <hull/ops/sigmoid.hpp>
#include <hull/ops/tanh.hpp>
#include <hull/relax/s_curve.hpp>

using namespace hull;

static_assert(SCurve<sigmoid_t::curve> && SCurve<tanh_t::curve>);

namespace {

struct gaps {
  double lower = 1e300;
  double upper = 1e300;
};

/// The least distance of each line from f over the box.
template <class F>
gaps least_gaps(F f, interval<float> box) {
  auto const r = f.relax(box);
  gaps g;
  for (int i = 0; i <= 400; ++i) {
    double const l = static_cast<double>(box.lower);
    double const t = l + i / 400.0 * (static_cast<double>(box.upper) - l);
    double const value = f.eval(t);
    g.lower = std::min(g.lower, value - static_cast<double>(r.lower.slope) * t - static_cast<double>(r.lower.bias));
    g.upper = std::min(g.upper, static_cast<double>(r.upper.slope) * t + static_cast<double>(r.upper.bias) - value);
  }
  return g;
}

template <class F>
void touches(F f) {
  std::mt19937 engine(9);
  std::uniform_real_distribution<float> unit(-1, 1);
  double worst = 0;
  for (float scale : {0.01f, 0.3f, 1.0f, 4.0f, 20.0f}) {
    for (int i = 0; i < 400; ++i) {
      float const a = scale * unit(engine);
      float const b = scale * unit(engine);
      gaps const g = least_gaps(f, {std::min(a, b), std::max(a, b)});
      // Samples miss the touching point by up to half a step: f'' <= 1, so by (width / 400)^2 / 8.
      double const step = static_cast<double>(std::fabs(a - b)) / 400;
      worst = std::max(worst, std::max(g.lower, g.upper) - step * step / 8);
    }
  }
  CHECK(worst < 5e-7);
}

}  // namespace

TEST_CASE("lines touch the function") {
  touches(Tanh);
  touches(Sigmoid);
}

TEST_CASE("the tangent from an end point touches where it should") {
  // tanh'(p) (u - p) = tanh(u) - tanh(p)
  for (double u : {0.01, 0.5, 1.0, 3.0, 50.0, 1e6, 3e38}) {
    double const p = touching_point(tanh_t::curve{}, {-1e30, u});
    double const slope = 1 / (std::cosh(p) * std::cosh(p));
    CHECK(slope * (u - p) == doctest::Approx(std::tanh(u) - std::tanh(p)).epsilon(1e-6));
    CHECK(p < 0);
    CHECK(touching_point(tanh_t::curve{}, {p / 2, u}) == doctest::Approx(p / 2).epsilon(1e-6));
  }
}

TEST_CASE("tangent at the midpoint and chord on one side of zero") {
  auto const r = Tanh.relax({1, 3});
  CHECK(r.upper.slope == doctest::Approx(1 / (std::cosh(2.0) * std::cosh(2.0))));
  CHECK(r.lower.slope == doctest::Approx((std::tanh(3.0) - std::tanh(1.0)) / 2));
}

TEST_CASE("across zero: the chord where it fits, else the tangent through the other end point") {
  auto const chord = Tanh.relax({-0.1f, 4});
  CHECK(chord.lower.slope == doctest::Approx((std::tanh(4.0) - std::tanh(-0.1)) / 4.1));
  auto const tangents = Tanh.relax({-2, 2});
  CHECK(tangents.lower.slope * 2 + tangents.lower.bias == doctest::Approx(std::tanh(2.0)));
  CHECK(tangents.upper.slope * -2 + tangents.upper.bias == doctest::Approx(std::tanh(-2.0)));
}

TEST_CASE("an odd function has mirrored lines") {
  auto const a = Tanh.relax({-3, 1.25f});
  auto const b = Tanh.relax({-1.25f, 3});
  CHECK(a.lower.slope == b.upper.slope);
  CHECK(a.lower.bias == -b.upper.bias);
  CHECK(a.upper.slope == b.lower.slope);
  CHECK(a.upper.bias == -b.lower.bias);
}
