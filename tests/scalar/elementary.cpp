// SPDX-License-Identifier: Apache-2.0
// exp, tanh and sigmoid enclose the real functions, taken in extended precision, and do so tightly.
#include <bit>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <limits>

#include <hull/scalar/elementary.hpp>

using namespace hull;

namespace {

long double exact_sigmoid(long double x) {
  long double const e = std::exp(x < 0 ? x : -x);
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

long double exact_slope(long double x) {
  long double const e = std::exp(-std::fabs(x));
  return e / ((1 + e) * (1 + e));
}

/// For tiny x glibc's own 64-bit tanh is x * (1 + x), which is off by up to 2^-57; the series is exact to 2^-79 there.
long double exact_tanh(long double x) { return std::fabs(x) < 1e-6L ? x - x * x * x / 3 : std::tanh(x); }

struct result {
  long missed = 0;   // the exact value is not between down and up
  long loose = 0;    // more than two floats apart
  long checked = 0;  // arguments
};

/// Every 1009th float and all of the special ones.
template <class Down, class Up, class Exact>
result over_floats(Down below, Up above, Exact exact) {
  result r;
  auto const check = [&](float x) {
    long double const value = exact(static_cast<long double>(x));
    float const low = below(x);
    float const high = above(x);
    r.missed += !(static_cast<long double>(low) <= value && value <= static_cast<long double>(high));
    r.loose += up::next(up::next(low)) < high;
    ++r.checked;
  };
  for (std::uint64_t bits = 0; bits < 0x100000000u; bits += 1009) {
    float const x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (!std::isnan(x)) check(x);
  }
  for (float x : {0.0f, -0.0f, 1e-45f, 1.2e-38f, 1e-8f, 17.0f, 88.72f, 88.73f, 103.9f, 104.0f, 700.0f, 3.4e38f}) {
    check(x);
    check(-x);
  }
  return r;
}

/// Doubles of all magnitudes up to 1e308, and densely up to 1000.
template <class Down, class Up, class Exact>
result over_doubles(Down below, Up above, Exact exact) {
  result r;
  auto const check = [&](double x) {
    long double const value = exact(static_cast<long double>(x));
    r.missed += !(static_cast<long double>(below(x)) <= value && value <= static_cast<long double>(above(x)));
    ++r.checked;
  };
  for (double x = 1e-322; x < 1e308; x *= 1.1) {
    check(x);
    check(-x);
  }
  for (double x = -1000; x < 1000; x += 0.0137) check(x);
  return r;
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("exp") {
  auto const exact = [](long double x) { return std::exp(x); };
  auto const f = over_floats([](float x) { return down::exp(x); }, [](float x) { return up::exp(x); }, exact);
  CHECK(f.missed == 0);
  CHECK(f.loose == 0);
  CHECK(f.checked > 4'000'000);
  auto const d = over_doubles([](double x) { return down::exp(x); }, [](double x) { return up::exp(x); }, exact);
  CHECK(d.missed == 0);
  CHECK(up::exp(1e4f) == infinity);
  CHECK(down::exp(1e4f) == std::numeric_limits<float>::max());
  CHECK(up::exp(-infinity) > 0);
  CHECK(down::exp(-infinity) == 0);
  CHECK(std::isnan(up::exp(not_a_number)));
  CHECK(std::isnan(down::exp(not_a_number)));
}

TEST_CASE("tanh") {
  auto const f = over_floats([](float x) { return down::tanh(x); }, [](float x) { return up::tanh(x); }, exact_tanh);
  CHECK(f.missed == 0);
  CHECK(f.loose == 0);
  auto const d = over_doubles([](double x) { return down::tanh(x); }, [](double x) { return up::tanh(x); }, exact_tanh);
  CHECK(d.missed == 0);
  CHECK(up::tanh(1e-45f) == 1e-45f);
  CHECK(down::tanh(1e-45f) == 0);
  CHECK(up::tanh(0.0f) == 0);
  CHECK(down::tanh(0.0f) == 0);
  CHECK(up::tanh(infinity) == 1);
  CHECK(down::tanh(-infinity) == -1);
  CHECK(std::isnan(up::tanh(not_a_number)));
}

TEST_CASE("sigmoid and its derivative") {
  auto const f =
      over_floats([](float x) { return down::sigmoid(x); }, [](float x) { return up::sigmoid(x); }, exact_sigmoid);
  CHECK(f.missed == 0);
  CHECK(f.loose == 0);
  auto const d =
      over_doubles([](double x) { return down::sigmoid(x); }, [](double x) { return up::sigmoid(x); }, exact_sigmoid);
  CHECK(d.missed == 0);
  auto const s = over_doubles([](double x) { return down::sigmoid_slope(x); },
                              [](double x) { return up::sigmoid_slope(x); }, exact_slope);
  CHECK(s.missed == 0);
  CHECK(up::sigmoid(infinity) == 1);
  CHECK(down::sigmoid(-infinity) == 0);
  CHECK(std::isnan(up::sigmoid(not_a_number)));
  CHECK(std::isnan(down::sigmoid(not_a_number)));
}
