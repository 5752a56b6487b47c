// SPDX-License-Identifier: Apache-2.0
// Interval arithmetic contains what it should, over all sign patterns and at infinity.
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <vector>

#include <hull/scalar/interval.hpp>

using namespace hull;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float least = std::numeric_limits<float>::denorm_min();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<interval<float>> boxes() {
  std::vector<float> ends{0, least, 1e-38f, 1e-7f, 0.1f, 1, 1.5f, 3, 1e10f, 3e38f, largest};
  for (std::size_t i = ends.size(); i-- > 0;) ends.push_back(-ends[i]);
  std::vector<interval<float>> result;
  for (float a : ends) {
    for (float b : ends) {
      if (a <= b) result.push_back({a, b});
    }
  }
  return result;
}

/// Whether the real number x, given to 64 bits, is in the box.
bool has(interval<float> box, long double x) {
  return static_cast<long double>(box.lower) <= x && x <= static_cast<long double>(box.upper);
}

}  // namespace

TEST_CASE("arithmetic contains the results at the end points and the middle, for all sign patterns") {
  long missed = 0;
  for (auto x : boxes()) {
    for (auto y : boxes()) {
      auto const sum = x + y;
      auto const difference = x - y;
      auto const product = x * y;
      auto const quotient = x / y;
      for (float s : {x.lower, midpoint(x), x.upper}) {
        missed += !has(scale(y, s), static_cast<long double>(s) * y.lower);
        missed += !has(scale(y, s), static_cast<long double>(s) * y.upper);
        for (float t : {y.lower, midpoint(y), y.upper}) {
          long double const a = s;
          long double const b = t;
          missed += !has(sum, a + b) + !has(difference, a - b) + !has(product, a * b);
          if (t != 0) missed += !has(quotient, a / b);
        }
      }
    }
  }
  CHECK(missed == 0);
}

TEST_CASE("midpoint and radius enclose the interval") {
  long missed = 0;
  auto const check = [&](interval<float> x) {
    double const middle = midpoint(x);
    double const distance = radius(x);
    missed += !contains(x, midpoint(x)) + !(middle - distance <= x.lower) + !(middle + distance >= x.upper);
    missed += !(static_cast<double>(width(x)) >= static_cast<double>(x.upper) - static_cast<double>(x.lower));
  };
  for (auto x : boxes()) check(x);
  std::mt19937 engine(7);
  std::uniform_real_distribution<float> draw(-10, 10);
  for (int i = 0; i < 200000; ++i) {
    float const a = draw(engine);
    float const b = i % 3 == 0 ? std::nextafter(a, infinity) : a + std::fabs(draw(engine));
    check({a, b});
  }
  CHECK(missed == 0);
  CHECK(midpoint(everything<float>()) == 0);
  CHECK(midpoint(interval<float>{2, infinity}) == 2);
  CHECK(radius(interval<float>{2, infinity}) == infinity);
}

TEST_CASE("results are tight where they can be") {
  using box = interval<float>;
  CHECK(box{-1, 2} * box{-3, 5} == box{-6, 10});
  CHECK(box{-1, 2} + box{-3, 5} == box{-4, 7});
  CHECK(box{-1, 2} - box{-3, 5} == box{-6, 5});
  CHECK(box{-1, 2} / box{2, 4} == box{-0.5f, 1});
  CHECK(box{-1, 2} / box{-4, -2} == box{-1, 0.5f});
  CHECK(-box{-1, 2} == box{-2, 1});
  CHECK(scale(box{-1, 2}, -3.0f) == box{-6, 3});
  CHECK(width(box{-1, 2}) == 3);
  CHECK(radius(box{-1, 2}) == 1.5f);
}

TEST_CASE("join, meet, contains, empty") {
  using box = interval<float>;
  CHECK(join(box{0, 1}, box{3, 4}) == box{0, 4});
  CHECK(meet(box{0, 3}, box{2, 4}) == box{2, 3});
  CHECK(is_empty(meet(box{0, 1}, box{2, 3})));
  CHECK(is_empty(box{not_a_number, 1}));
  CHECK(meet(box{not_a_number, 1}, box{0, not_a_number}) == box{0, 1});
  CHECK(contains(box{0, 1}, 1.0f));
  CHECK(!contains(box{0, 1}, not_a_number));
  CHECK(contains(box{0, 3}, box{1, 2}));
  CHECK(!contains(box{0, 3}, box{1, 4}));
  CHECK(is_finite(box{-largest, largest}));
  CHECK(!is_finite(box{0, infinity}));
  CHECK(!is_finite(box{not_a_number, 0}));
}

TEST_CASE("infinite and unknown operands never give NaN or a bound that does not hold") {
  using box = interval<float>;
  auto const all = everything<float>();
  CHECK(all + all == all);
  CHECK(all - all == all);
  CHECK(all * all == all);
  CHECK(all * box{0, 0} == box{0, 0});
  CHECK(box{0, 1} * box{2, infinity} == box{0, infinity});
  CHECK(box{-1, 1} * box{2, infinity} == all);
  CHECK(box{infinity, infinity} + box{-infinity, -infinity} == all);
  CHECK(box{1, 2} / box{0, 1} == all);
  CHECK(box{1, 2} / box{1, infinity} == box{0, 2});
  for (box bad : {box{not_a_number, 1}, box{0, not_a_number}, box{2, 1}}) {
    CHECK(bad + box{0, 1} == all);
    CHECK(bad * box{0, 1} == all);
    CHECK(bad / box{1, 2} == all);
    CHECK(join(bad, box{0, 1}) == all);
    CHECK(scale(bad, 2.0f) == all);
  }
}
