// SPDX-License-Identifier: Apache-2.0
// Sums over lanes are those of plain loops: compilers vectorise them, and some have lost terms (gcc 12, in masked
// reads). Also part of the program `optimised`: with -O3, for AVX2.
#include <algorithm>
#include <array>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <vector>

#include <hull/backend/cpu/alpha.hpp>
#include <hull/backend/cpu/relax.hpp>
#include <hull/backend/roundings.hpp>

using namespace hull;

namespace {

std::vector<float> numbers(std::size_t count, std::mt19937& random, float sparse = 0) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) {
    float const x = normal(random);
    value =
        static_cast<float>(random() % 100) < 100 * sparse ? 0.0f : std::ldexp(x, static_cast<int>(random() % 12) - 6);
  }
  return values;
}

/// A stage with `live` columns whose lines have nothing to do with each other, and some rows.
struct sides final {
  static constexpr std::size_t rows = 5;
  std::size_t live;
  std::mt19937 random;
  std::array<std::vector<float>, 8> line;  // slopes, shifts, far shifts, error, reach
  std::vector<float> a;
  std::vector<double> value, slack, bound, far_value, far_bound;
  std::vector<index_t> box, index;
  std::vector<float> sign;
  double floor = 0.125;

  explicit sides(std::size_t columns)
      : live(columns),
        random(static_cast<unsigned>(columns)),
        a(numbers(rows * columns, random, 0.1f)),
        value(rows, 1.0),
        slack(rows, 0.5),
        bound(rows),
        far_value(rows, 2.0),
        far_bound(rows),
        box(rows, 0),
        index(rows, 0),
        sign(rows, 1) {
    for (auto& one : line) one = numbers(columns, random);
    for (std::size_t k : {6, 7}) {
      for (float& x : line[k]) x = std::fabs(x);
    }
  }

  [[nodiscard]] stage_state stage() {
    stage_state s;
    s.size = s.live_count = live;
    float** const to[] = {&s.lower_slope, &s.upper_slope, &s.lower_shift, &s.upper_shift,
                          &s.lower_far,   &s.upper_far,   &s.error,       &s.reach};
    for (std::size_t k = 0; k < line.size(); ++k) *to[k] = line[k].data();
    s.floor = &floor;
    return s;
  }
  [[nodiscard]] row_block block() {
    row_block r;
    r.count = rows;
    r.box = box.data(), r.index = index.data(), r.sign = sign.data();
    r.value = value.data(), r.slack = slack.data(), r.bound = bound.data();
    r.far_value = far_value.data(), r.far_bound = far_bound.data();
    return r;
  }

  /// Sum of term(c) in the order that is promised: by lane, then the lanes in pairs.
  template <class Term>
  [[nodiscard]] double sum(Term&& term) const {
    std::array<double, cpu::sum_lanes> lanes{};
    for (std::size_t c = 0; c < live; ++c) {
      double const volatile x = term(c);  // one after the other
      lanes[c % cpu::sum_lanes] += x;
    }
    return cpu::total(lanes);
  }
};

/// Of sums in one order: a lost term is much more than this.
bool close(double found, double expected, double magnitude) { return std::fabs(found - expected) <= 1e-12 * magnitude; }

template <class R, bool Finish>
void check_relax(std::size_t live) {
  sides one(live);
  auto const before = one.a;
  cpu::relax_rows<R, Finish>(one.block(), one.stage(), one.a.data());
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < sides::rows; ++r) {
    auto const x = [&](std::size_t c) { return static_cast<double>(before[r * live + c]); };
    auto const side = [&](std::size_t k, std::size_t c) -> double { return one.line[x(c) >= 0 ? k : k + 1][c]; };
    double const shifts = one.sum([&](std::size_t c) { return x(c) * side(2, c); });
    double const far = one.sum([&](std::size_t c) { return x(c) * side(4, c); });
    double const errors = one.sum([&](std::size_t c) { return std::fabs(x(c)) * static_cast<double>(one.line[6][c]); });
    double const size =
        one.sum([&](std::size_t c) { return std::fabs(x(c)) * (std::fabs(side(2, c)) + std::fabs(side(4, c))); });
    for (std::size_t c = 0; c < live; ++c) {
      wrong += one.a[r * live + c] == static_cast<float>(before[r * live + c] * static_cast<float>(side(0, c))) ? 0 : 1;
    }
    wrong += close(one.value[r], 1 + shifts, 1 + size) ? 0 : 1;
    wrong += close(one.far_value[r], 2 + far, 2 + size) ? 0 : 1;
    if constexpr (R::outward) {
      wrong += one.slack[r] >= 0.5 + errors && one.slack[r] <= (0.75 + errors + 1e-12 * size) * 1.0001 ? 0 : 1;
    }
    if constexpr (Finish) {
      double const distance = one.sum([&](std::size_t c) {
        return std::fabs(static_cast<double>(one.a[r * live + c])) * static_cast<double>(one.line[7][c]);
      });
      double const more = R::outward ? one.slack[r] : 0;
      wrong += close(one.bound[r], one.value[r] - distance - more, 1 + size + distance + more) ? 0 : 1;
      wrong += close(one.far_bound[r], one.far_value[r] + distance + more, 2 + size + distance + more) ? 0 : 1;
    }
  }
  CAPTURE(live);
  CHECK(wrong == 0);
}

/// All columns fixed, then all free with parameters of their own.
template <class R>
void check_free(std::size_t live, bool free) {
  sides one(live);
  stage_state const s = one.stage();
  std::array<std::vector<float>, 4> second;  // lines of parameter 1
  for (auto& x : second) x = numbers(live, one.random);
  std::vector<index_t> column(live);
  for (std::size_t c = 0; c < live; ++c) column[c] = static_cast<index_t>(c);
  std::reverse(column.begin(), column.end());
  std::vector<float> alpha(sides::rows * live), moved(sides::rows * live), nothing(live, 0.0f);
  for (float& x : alpha) x = std::uniform_real_distribution<float>(0, 1)(one.random);
  free_columns f;
  f.count = free ? live : 0;
  f.column = column.data();
  line_arrays const zero{s.lower_slope, s.upper_slope, s.lower_shift, s.upper_shift};
  f.zero = zero;
  f.one = {second[0].data(), second[1].data(), second[2].data(), second[3].data()};
  f.fixed = free ? line_arrays{nothing.data(), nothing.data(), nothing.data(), nothing.data()} : zero;
  f.fixed_error = free ? nothing.data() : s.error;
  f.error = s.error;
  free_rows p;
  p.width = live;
  p.alpha = alpha.data();
  auto const before = one.a;
  cpu::relax_free_rows<R>(one.block(), s, f, p, one.a.data(), moved.data());
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < sides::rows; ++r) {
    std::vector<double> slope(live), shift(live), error(live);
    for (std::size_t i = 0; i < live; ++i) {
      std::size_t const c = free ? column[i] : i, k = before[r * live + c] >= 0 ? 0 : 1;
      double const share = free ? alpha[r * live + i] : 0;
      slope[c] = one.line[k][i] + share * (static_cast<double>(second[k][i]) - one.line[k][i]);
      shift[c] = one.line[2 + k][i] + share * (static_cast<double>(second[2 + k][i]) - one.line[2 + k][i]);
      error[c] = one.line[6][i];
    }
    auto const x = [&](std::size_t c) { return static_cast<double>(before[r * live + c]); };
    double const shifts = one.sum([&](std::size_t c) { return x(c) * shift[c]; });
    double const errors = one.sum([&](std::size_t c) { return std::fabs(x(c)) * error[c]; });
    double const size = one.sum([&](std::size_t c) { return std::fabs(x(c)) * (1 + std::fabs(shift[c])); });
    for (std::size_t c = 0; c < live; ++c) {
      double const expected = x(c) * slope[c];
      wrong +=
          std::fabs(static_cast<double>(moved[r * live + c]) - expected) <= 1e-5 * (1 + std::fabs(x(c))) * 100 ? 0 : 1;
    }
    wrong += std::fabs(one.value[r] - 1 - shifts) <= 1e-6 * (1 + size) ? 0 : 1;
    if constexpr (R::outward)
      wrong += one.slack[r] >= 0.5 + errors && one.slack[r] <= (0.75 + errors) * 1.001 + 1e-9 * size ? 0 : 1;
  }
  CAPTURE(live);
  CAPTURE(free);
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("one of two numbers, by a sign") {
  float const infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (float const x : {1.0f, 0.0f, -0.0f, infinity}) {
    CHECK(cpu::by_sign(x, 2.0f, nan) == 2);
    CHECK(cpu::by_sign(x, -3.0, static_cast<double>(nan)) == -3);
  }
  for (float const x : {-1.0f, -1e-45f, -infinity, nan}) {
    CHECK(cpu::by_sign(x, nan, infinity) == infinity);
    CHECK(cpu::by_sign(x, static_cast<double>(nan), 4.0) == 4);
  }
}
TEST_CASE("rows between the output of a stage and its head") {
  for (std::size_t live = 1; live < 200; ++live) {
    check_relax<Outward, false>(live);
    check_relax<Outward, true>(live);
    check_relax<Nearest, false>(live);
    check_relax<Nearest, true>(live);
  }
}
TEST_CASE("rows with lines of their own") {
  for (std::size_t live = 1; live < 200; ++live) {
    check_free<Outward>(live, false);
    check_free<Outward>(live, true);
    check_free<Nearest>(live, true);
  }
}
