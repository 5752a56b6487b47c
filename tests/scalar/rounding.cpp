// SPDX-License-Identifier: Apache-2.0
// Every directed operation against the processor's own rounding modes.
#include <array>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <vector>

#include <hull/scalar/rounding.hpp>

using namespace hull;

namespace {

/// f(a, b, c) under the given rounding mode. The volatile copies keep the compiler from moving f out of it.
template <class T, class F>
T under(int mode, F f, T a, T b = 0, T c = 0) {
  T volatile va = a;
  T volatile vb = b;
  T volatile vc = c;
  std::fesetround(mode);
  T volatile result = f(va, vb, vc);
  std::fesetround(FE_TONEAREST);
  return result;
}

/// Random bits cover all magnitudes, so most pairs are far apart; half of the numbers are therefore near 1.
template <class T>
class numbers {
 public:
  T operator()() {
    std::uint64_t const kind = engine_() % 8;
    if (kind == 0) return special_[engine_() % special_.size()];
    if (kind < 4) return any();
    T const x = static_cast<T>(std::uniform_real_distribution<double>(-4, 4)(engine_));
    return kind == 4 ? std::round(8 * x) : x;
  }

 private:
  T any() {
    using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    return std::bit_cast<T>(static_cast<bits>(engine_()));
  }

  using limits = std::numeric_limits<T>;
  std::mt19937_64 engine_{20260101};
  std::vector<T> special_{0,
                          -T(0),
                          1,
                          -1,
                          3,
                          limits::denorm_min(),
                          -limits::denorm_min(),
                          5 * limits::denorm_min(),
                          limits::min(),
                          -limits::min(),
                          limits::max(),
                          limits::lowest(),
                          limits::max() / 2,
                          limits::epsilon(),
                          1 + limits::epsilon(),
                          1 - limits::epsilon() / 2,
                          limits::infinity(),
                          -limits::infinity(),
                          limits::quiet_NaN()};
};

struct tally {
  long wrong = 0;  // on the unsound side, or further out than allowed
  long loose = 0;  // one step further out than the correctly rounded result
};

template <class T>
void compare_up(tally& t, T got, T exact, bool exactly) {
  if (std::isnan(exact) || std::isnan(got)) {
    t.wrong += !(std::isnan(exact) && std::isnan(got));
  } else if (got != exact) {
    ++t.loose;
    t.wrong += exactly || got != up::next(exact);
  }
}

template <class T>
void compare_down(tally& t, T got, T exact, bool exactly) {
  compare_up(t, -got, -exact, exactly);
}

constexpr int rounds = 300000;

}  // namespace

TEST_CASE("float operations are correctly rounded") {
  numbers<float> draw;
  tally t;
  for (int i = 0; i < rounds; ++i) {
    float const a = draw();
    float const b = draw();
    float const c = draw();
    auto const both = [&](float above, float below, auto f) {
      compare_up(t, above, under(FE_UPWARD, f, a, b, c), true);
      compare_down(t, below, under(FE_DOWNWARD, f, a, b, c), true);
    };
    both(up::add(a, b), down::add(a, b), [](float x, float y, float) { return x + y; });
    both(up::sub(a, b), down::sub(a, b), [](float x, float y, float) { return x - y; });
    both(up::mul(a, b), down::mul(a, b), [](float x, float y, float) { return x * y; });
    both(up::div(a, b), down::div(a, b), [](float x, float y, float) { return x / y; });
    both(up::fma(a, b, c), down::fma(a, b, c), [](float x, float y, float z) { return std::fma(x, y, z); });
    both(up::sqrt(a), down::sqrt(a), [](float x, float, float) { return std::sqrt(x); });
  }
  CHECK(t.wrong == 0);
}

TEST_CASE("double operations are correctly rounded, fma and the far ends of the range within one step") {
  numbers<double> draw;
  tally t;
  tally in_range;
  for (int i = 0; i < rounds; ++i) {
    double const a = draw();
    double const b = draw();
    double const c = draw();
    auto const ordinary = [](double x) { return x == 0 || (std::fabs(x) > 1e-280 && std::fabs(x) < 1e300); };
    auto const both = [&](double above, double below, auto f, bool exactly) {
      double const greatest = under(FE_UPWARD, f, a, b, c);
      double const least = under(FE_DOWNWARD, f, a, b, c);
      bool const tight = exactly && ordinary(a) && ordinary(b) && ordinary(least) && ordinary(greatest);
      tally& where = tight ? in_range : t;
      compare_up(where, above, greatest, tight);
      compare_down(where, below, least, tight);
    };
    both(
        up::add(a, b), down::add(a, b), [](double x, double y, double) { return x + y; }, true);
    both(
        up::sub(a, b), down::sub(a, b), [](double x, double y, double) { return x - y; }, true);
    both(
        up::mul(a, b), down::mul(a, b), [](double x, double y, double) { return x * y; }, true);
    both(
        up::div(a, b), down::div(a, b), [](double x, double y, double) { return x / y; }, true);
    both(
        up::fma(a, b, c), down::fma(a, b, c), [](double x, double y, double z) { return std::fma(x, y, z); }, false);
    both(
        up::sqrt(a), down::sqrt(a), [](double x, double, double) { return std::sqrt(x); }, true);
  }
  CHECK(t.wrong == 0);
  CHECK(in_range.wrong == 0);
}

TEST_CASE("narrowing takes the next float on its side") {
  numbers<double> draw;
  numbers<float> draw_float;
  tally t;
  for (int i = 0; i < rounds; ++i) {
    double const x = i % 2 == 0 ? draw() : static_cast<double>(draw_float()) * (1 + 1e-16 * (i % 5));
    double volatile copy = x;
    std::fesetround(FE_UPWARD);
    float const volatile above = static_cast<float>(copy);
    std::fesetround(FE_DOWNWARD);
    float const volatile below = static_cast<float>(copy);
    std::fesetround(FE_TONEAREST);
    compare_up<float>(t, up::from_double(x), above, true);
    compare_down<float>(t, down::from_double(x), below, true);
  }
  CHECK(t.wrong == 0);
}

TEST_CASE("next steps over every boundary") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float largest = std::numeric_limits<float>::max();
  constexpr float least = std::numeric_limits<float>::denorm_min();
  static_assert(up::next(0.0f) == least && up::next(-0.0f) == least && down::next(0.0f) == -least);
  static_assert(up::next(-least) == 0 && down::next(least) == 0);
  static_assert(up::next(largest) == infinity && up::next(infinity) == infinity && up::next(-infinity) == -largest);
  static_assert(down::next(-largest) == -infinity && down::next(infinity) == largest);
  static_assert(up::next(1.0) == 1 + std::numeric_limits<double>::epsilon());
  CHECK(std::isnan(up::next(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(down::next(std::numeric_limits<double>::quiet_NaN())));
  numbers<float> draw;
  for (int i = 0; i < 100000; ++i) {
    float const x = draw();
    if (std::isnan(x)) continue;
    REQUIRE(up::next(x) == std::nextafter(x, infinity));
    REQUIRE(down::next(x) == std::nextafter(x, -infinity));
  }
}

TEST_CASE("overflow is infinite on the sound side only") {
  float const f = std::numeric_limits<float>::max();
  double const d = std::numeric_limits<double>::max();
  CHECK(up::add(f, f) == std::numeric_limits<float>::infinity());
  CHECK(down::add(f, f) == f);
  CHECK(up::mul(-d, d) == -d);
  CHECK(up::add(-d, -d) == -d);
  CHECK(down::div(d, 1e-300) == d);
  CHECK(down::fma(d, d, -1.0) == d);
  CHECK(up::from_double(-1e300) == -f);
}
