// SPDX-License-Identifier: Apache-2.0
// The laws every pointwise operator owes, checked on more than a million points each.
//
// The oracle is eval<long double> on the float parameters: 11 bits more than the double in which lines are made. A
// comparison allows for the oracle's own rounding, 2^-60 of the terms, a hundredth of a rounding error of double.
#include <algorithm>
#include <array>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <string_view>
#include <vector>

#include <hull/ops/add_constant.hpp>
#include <hull/ops/batch_normalization.hpp>
#include <hull/ops/div_constant.hpp>
#include <hull/ops/dropout.hpp>
#include <hull/ops/identity.hpp>
#include <hull/ops/leaky_relu.hpp>
#include <hull/ops/mul_constant.hpp>
#include <hull/ops/neg.hpp>
#include <hull/ops/relu.hpp>
#include <hull/ops/sigmoid.hpp>
#include <hull/ops/sub_constant.hpp>
#include <hull/ops/tanh.hpp>

using namespace hull;

namespace {

using real = long double;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float least = std::numeric_limits<float>::denorm_min();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// All pairs of special values, boxes of every scale and sign pattern, boxes a few floats wide.
std::vector<interval<float>> const& boxes() {
  static std::vector<interval<float>> const all = [] {
    std::vector<interval<float>> result;
    auto const add = [&](float a, float b) {
      result.push_back(a <= b ? interval<float>{a, b} : interval<float>{b, a});
    };

    std::vector<float> special{0, least, 1e-40f, 1.2e-38f, 1e-20f, 1e-8f, 1e-3f, 0.3f,  1,      1.5f,
                               4, 9,     17,     60,       104,    1e4f,  1e20f, 3e38f, largest};
    for (std::size_t i = special.size(); i-- > 0;) special.push_back(-special[i]);
    for (float a : special) {
      for (float b : special) add(a, b);
    }

    std::mt19937 engine(1);
    std::uniform_real_distribution<float> unit(-1, 1);
    for (float scale : {1e-44f, 1e-30f, 1e-6f, 1e-3f, 0.1f, 1.0f, 3.0f, 10.0f, 100.0f, 1e6f, 1e30f, largest}) {
      for (int i = 0; i < 500; ++i) {
        float const a = scale * unit(engine);
        add(a, scale * unit(engine));
        add(a, a * unit(engine));
        add(a, std::nextafter(a, infinity));
        add(a, a * (1 + 1e-6f * unit(engine)));
      }
    }
    return result;
  }();
  return all;
}

/// End points, their neighbours, zero, the middle, and points at random and at every scale in between.
template <class Visit>
void for_points(interval<float> box, std::mt19937& engine, Visit visit) {
  visit(box.lower);
  if (box.lower == box.upper) return;
  visit(box.upper);
  std::array<float, 6> const candidates{std::nextafter(box.lower, infinity),
                                        std::nextafter(box.upper, -infinity),
                                        0,
                                        0.5f * box.lower + 0.5f * box.upper,
                                        least,
                                        -least};
  for (float t : candidates) {
    if (contains(box, t)) visit(t);
  }
  std::uniform_real_distribution<double> unit(0, 1);
  for (int i = 0; i < 44; ++i) {
    double const share = i % 2 == 0 ? unit(engine) : std::exp(-20 * unit(engine));
    double const l = static_cast<double>(box.lower);
    double const u = static_cast<double>(box.upper);
    float const t = static_cast<float>(i % 4 < 2 ? l + share * (u - l) : u - share * (u - l));
    if (contains(box, t)) visit(t);
  }
}

real allowance(real a, real b, real c) { return 0x1p-60L * (std::fabs(a) + std::fabs(b) + std::fabs(c)); }

bool is_below(line<float> lower, real t, real value) {
  real const product = static_cast<real>(lower.slope) * t;
  real const bias = lower.bias;
  return product + bias <= value + (std::isinf(bias) ? 0 : allowance(product, bias, value));
}

bool is_above(line<float> upper, real t, real value) { return is_below({-upper.slope, -upper.bias}, t, -value); }

bool has_nan(lines<float> r) {
  return std::isnan(r.lower.slope) || std::isnan(r.lower.bias) || std::isnan(r.upper.slope) || std::isnan(r.upper.bias);
}

bool all_finite(lines<float> r) {
  return std::isfinite(r.lower.slope) && std::isfinite(r.lower.bias) && std::isfinite(r.upper.slope) &&
         std::isfinite(r.upper.bias);
}

struct count {
  long points = 0;
  long below = 0;         // lower line above f
  long above = 0;         // upper line below f
  long outside = 0;       // f outside of image
  long nan = 0;           // a NaN in lines or image
  long infinite = 0;      // infinite lines for an ordinary box and ordinary parameters
  long inaccurate = 0;    // eval<float> far from eval<double>
  long loose_points = 0;  // lines at a point further apart than rounding explains
};

/// `ordinary`: parameters for which f of a box within 1e6 is far from overflow.
template <PointwiseFunction F>
count check_laws(F f, bool ordinary) {
  count n;
  std::mt19937 engine(2);
  for (auto box : boxes()) {
    auto const r = f.relax(box);
    auto const image = f.image(box);
    n.nan += has_nan(r) + std::isnan(image.lower) + std::isnan(image.upper);
    n.infinite += ordinary && std::fabs(box.lower) < 1e6f && std::fabs(box.upper) < 1e6f && !all_finite(r);
    auto const visit = [&](float t) {
      real const x = t;
      real const value = f.eval(x);
      n.below += !is_below(r.lower, x, value);
      n.above += !is_above(r.upper, x, value);
      n.outside += !is_below({0, image.lower}, x, value) + !is_above({0, image.upper}, x, value);
      ++n.points;
    };
    for_points(box, engine, visit);

    if (ordinary && std::fabs(box.lower) < 1e6f) {
      real const x = box.lower;
      real const value = f.eval(x);
      auto const at_point = f.relax({box.lower, box.lower});
      real const low = at_point.lower.slope * x + at_point.lower.bias;
      real const high = at_point.upper.slope * x + at_point.upper.bias;
      real const size = std::fabs(value) + std::fabs(at_point.lower.slope * x) + std::fabs(real(at_point.lower.bias));
      n.loose_points += !(high - low <= 1e-6L * size + 2 * real(least));
      n.inaccurate += !(std::fabs(f.eval(box.lower) - value) <= 1e-6L * size + 2 * real(least));
      n.inaccurate += !(std::fabs(f.eval(static_cast<double>(box.lower)) - value) <= 1e-14L * size + 1e-300L);
    }
  }
  return n;
}

template <class F>
void laws(std::string_view name, std::vector<F> const& bindings, std::vector<F> const& extreme = {}) {
  CAPTURE(name);
  long points = 0;
  auto const run = [&](std::vector<F> const& list, bool ordinary) {
    for (std::size_t binding = 0; binding < list.size(); ++binding) {
      CAPTURE(binding);
      CAPTURE(ordinary);
      count const n = check_laws(list[binding], ordinary);
      CHECK(n.below == 0);
      CHECK(n.above == 0);
      CHECK(n.outside == 0);
      CHECK(n.nan == 0);
      CHECK(n.infinite == 0);
      CHECK(n.inaccurate == 0);
      CHECK(n.loose_points == 0);
      points += n.points;
    }
  };
  run(bindings, true);
  run(extreme, false);
  CHECK(points > 1'000'000);
}

}  // namespace

TEST_CASE("operators without parameters") {
  laws<relu_t>("Relu", {{}});
  laws<sigmoid_t>("Sigmoid", {{}});
  laws<tanh_t>("Tanh", {{}});
  laws<neg_t>("Neg", {{}});
  laws<identity_t>("Identity", {{}});
  laws<dropout_t::element>("Dropout", {{}});
}

TEST_CASE("LeakyRelu") {
  laws<leaky_relu_by>("LeakyRelu", {{0}, {0.01f}, {0.1f}, {1}, {-0.5f}, {2.7f}}, {{least}, {-3e38f}, {largest}});
}

TEST_CASE("arithmetic with a constant") {
  laws<add_by>("Add", {{0}, {0.1f}, {-7.3f}}, {{1e-30f}, {3e38f}});
  laws<sub_by>("Sub", {{0}, {0.1f}, {-7.3f}}, {{1e-30f}, {3e38f}});
  laws<mul_by>("Mul", {{0}, {0.1f}, {-7.3f}}, {{least}, {-3e38f}});
  laws<div_by>("Div", {{1}, {-4}, {0.3f}, {255}}, {{least}, {-1e-30f}, {3e38f}, {-largest}});
}

TEST_CASE("BatchNormalization") {
  //                     scale, bias, mean, variance, epsilon
  laws<batch_normalization_by>(
      "BatchNormalization",
      {{1, 0, 0, 1, 0}, {0.7f, -0.2f, 3.1f, 2.3f, 1e-5f}, {-1.9f, 12, -40, 1e-4f, 1e-3f}, {0, 1, 2, 3, 1e-5f}},
      {{1, 0, 0, 0, 1e-5f}, {3e38f, 0, 1, least, 0}, {1e-30f, 3e38f, -3e38f, 3e38f, 1}, {1, 1e-40f, 1e-40f, 1e20f, 0}});
}

TEST_CASE("the gain of BatchNormalization is enclosed within a few roundings of double") {
  std::mt19937 engine(4);
  std::uniform_real_distribution<float> unit(0, 1);
  long outside = 0;
  long loose = 0;
  for (int i = 0; i < 200'000; ++i) {
    batch_normalization_by const f{2 * unit(engine) - 1, 0, 0, std::exp(20 * unit(engine) - 10), 1e-5f};
    real const exact = f.scale / std::sqrt(real(f.variance) + real(f.epsilon));
    interval<double> const gain = f.gain();
    outside += !(gain.lower <= exact && exact <= gain.upper);
    loose += !(gain.upper - gain.lower <= 0x1p-50L * std::fabs(exact));
  }
  CHECK(outside == 0);
  CHECK(loose == 0);
}

TEST_CASE("lines of Relu are sound to the last bit") {
  std::mt19937 engine(3);
  std::uniform_real_distribution<float> unit(0, 1);
  long wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    float const scale = std::ldexp(1.0f, static_cast<int>(engine() % 60) - 30);
    interval<float> const box{-unit(engine) * scale, unit(engine)};
    auto const r = Relu.relax(box);
    for (float t : {box.lower, box.upper}) {  // floats: the right side is exact, so rounding the left cannot cross it
      wrong += static_cast<real>(r.upper.slope) * t + r.upper.bias < static_cast<real>(Relu.eval(t));
    }
    wrong += r.upper.slope > 1;
    wrong += r.lower.bias != 0 || (r.lower.slope != 0 && r.lower.slope != 1);
  }
  CHECK(wrong == 0);
}

TEST_CASE("Relu takes the better lower line, zero on a tie") {
  CHECK(Relu.relax({-1, 2}).lower.slope == 1);
  CHECK(Relu.relax({-2, 1}).lower.slope == 0);
  CHECK(Relu.relax({-1, 1}).lower.slope == 0);
  CHECK(Relu.relax({-1, 1}).upper.slope == 0.5f);
  CHECK(Relu.relax({-0.0f, 0.0f}).upper.slope == 1);
}

TEST_CASE("linear_on is true only where the lines are exact") {
  CHECK(Relu.linear_on({0, 1}));
  CHECK(Relu.linear_on({-1, 0}));
  CHECK(!Relu.linear_on({-1, least}));
  CHECK(!leaky_relu_by{0.1f}.linear_on({-1, 1}));
  CHECK(leaky_relu_by{1}.linear_on({-1, 1}));
  CHECK(!Tanh.linear_on({0, 1}));
  CHECK(div_by{3}.linear_on({-1, 1}));
}

TEST_CASE("unknown stays unknown: no finite line or image from an empty, infinite or NaN box, or from bad parameters") {
  auto const says_nothing = [](lines<float> r) { return r.lower.bias == -infinity && r.upper.bias == infinity; };
  for (interval<float> box : {interval<float>{not_a_number, 1}, {-1, not_a_number}, {1, -1}}) {
    CHECK(says_nothing(Relu.relax(box)));
    CHECK(says_nothing(Tanh.relax(box)));
    CHECK(says_nothing(Sigmoid.relax(box)));
    CHECK(says_nothing(leaky_relu_by{0.1f}.relax(box)));
    CHECK(says_nothing(div_by{3}.relax(box)));
    CHECK(says_nothing(batch_normalization_by{1, 0, 0, 1, 0}.relax(box)));
    CHECK(Relu.image(box) == everything<float>());
    CHECK(Tanh.image(box) == everything<float>());
    CHECK(leaky_relu_by{0.1f}.image(box) == everything<float>());
    CHECK(add_by{1}.image(box) == everything<float>());
    CHECK(batch_normalization_by{1, 0, 0, 1, 0}.image(box) == everything<float>());
  }
  CHECK(says_nothing(div_by{0}.relax({1, 2})));
  CHECK(div_by{0}.image({1, 2}) == everything<float>());
  CHECK(says_nothing(batch_normalization_by{1, 0, 0, -1, 1e-5f}.relax({1, 2})));
  CHECK(batch_normalization_by{1, 0, 0, 0, 0}.image({1, 2}) == everything<float>());

  CHECK(Relu.relax({-infinity, infinity}).upper.bias == infinity);
  CHECK(Relu.relax({-infinity, infinity}).lower.bias == 0);
  CHECK(Tanh.relax({-infinity, infinity}).lower.bias == -1);
  CHECK(Tanh.relax({-infinity, infinity}).upper.bias == 1);
  CHECK(Sigmoid.relax({-infinity, infinity}).lower.bias == 0);
  CHECK(Sigmoid.image({-infinity, infinity}) == interval<float>{0, 1});
}
