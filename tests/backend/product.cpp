// SPDX-License-Identifier: Apache-2.0
// The product behind every backward step: equal to the bit for every number of rows, within its stated error.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hull/backend/cpu/product.hpp>
#include <hull/propagate/rounding_error.hpp>

using namespace hull;
using namespace hull::cpu;

namespace {

std::vector<float> numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = std::ldexp(normal(random), static_cast<int>(random() % 12) - 6);
  return values;
}

struct problem final {
  std::size_t terms, columns;
  std::vector<float> a, w;  // 40 rows

  problem(std::size_t k, std::size_t n) : terms(k), columns(n), a(numbers(40 * k, 1)), w(numbers(k * n, 2)) {}

  /// C of `rows` rows from row `first` on, in a frame that must not be touched.
  [[nodiscard]] std::vector<float> run(std::size_t first, std::size_t rows, bool overwrite) const {
    std::size_t const ldc = columns + 3;
    std::vector<float> c((rows + 1) * ldc, 7.5f), scratch(block_floats);
    product(
        a.data() + first * terms, terms, rows, terms, columns,
        [&](std::size_t k, std::size_t j) { return w[k * columns + j]; }, c.data(), ldc, overwrite, scratch.data());
    std::vector<float> inner;
    bool framed = true;
    for (std::size_t r = 0; r <= rows; ++r) {
      for (std::size_t j = 0; j < ldc; ++j) {
        if (r < rows && j < columns)
          inner.push_back(c[r * ldc + j]);
        else
          framed = framed && c[r * ldc + j] == 7.5f;
      }
    }
    CHECK(framed);
    return inner;
  }
};

bool same(float const* x, float const* y, std::size_t count) { return std::memcmp(x, y, count * sizeof(float)) == 0; }

std::vector<problem> const& problems() {
  static std::vector<problem> const all = [] {
    std::vector<problem> list;
    for (std::size_t const k : {1u, 3u, 63u, 64u, 65u, 255u, 256u, 257u, 700u}) {
      for (std::size_t const n : {1u, 7u, 16u, 31u, 32u, 33u, 100u}) list.emplace_back(k, n);
    }
    list.emplace_back(300, 515);
    list.emplace_back(1000, 1030);
    return list;
  }();
  return all;
}

}  // namespace

TEST_CASE("every row is the same in every company") {
  for (auto const& p : problems()) {
    for (bool const overwrite : {true, false}) {
      auto const all = p.run(0, 40, overwrite);
      bool equal = true;
      for (std::size_t const rows : {1u, 2u, 5u, 6u, 7u, 11u, 12u, 13u, 25u}) {
        for (std::size_t const first : {0u, 3u, 15u}) {
          equal = equal && same(p.run(first, rows, overwrite).data(), all.data() + first * p.columns, rows * p.columns);
        }
      }
      CHECK(equal);
    }
  }
}

TEST_CASE("columns do not depend on their neighbours") {
  for (auto const& p : problems()) {
    if (p.columns < 31) continue;
    problem narrow(p.terms, p.columns - 9);
    for (std::size_t k = 0; k < p.terms; ++k) {
      std::copy_n(p.w.begin() + static_cast<std::ptrdiff_t>(k * p.columns + 9), narrow.columns,
                  narrow.w.begin() + static_cast<std::ptrdiff_t>(k * narrow.columns));
    }
    auto const all = p.run(0, 9, false), part = narrow.run(0, 9, false);
    bool equal = true;
    for (std::size_t r = 0; r < 9; ++r)
      equal = equal && same(&part[r * narrow.columns], &all[r * p.columns + 9], narrow.columns);
    CHECK(equal);
  }
}

TEST_CASE("the error is within gamma of the roundings") {
  for (auto const& p : problems()) {
    for (bool const overwrite : {true, false}) {
      auto const c = p.run(0, 40, overwrite);
      double const share = gamma(product_roundings(p.terms), unit_float);
      std::size_t bad = 0;
      for (std::size_t r = 0; r < 40; ++r) {
        for (std::size_t j = 0; j < p.columns; ++j) {
          long double exact = overwrite ? 0.0L : 7.5L, size = exact;
          for (std::size_t k = 0; k < p.terms; ++k) {
            long double const part = static_cast<long double>(p.a[r * p.terms + k]) * p.w[k * p.columns + j];
            exact += part;
            size += std::fabs(part);
          }
          bad += std::fabs(c[r * p.columns + j] - exact) > share * size;
        }
      }
      CHECK(bad == 0);
    }
  }
}

// Ones, then terms of half a last place, each of which a sum that has begun loses: the error is close to the bound.
TEST_CASE("the count of roundings is not larger than it has to be") {
  problem p(chain_terms, 1);
  std::fill(p.a.begin(), p.a.end(), 0x1p-24f);
  p.a[0] = 1;
  std::fill(p.w.begin(), p.w.end(), 1.0f);
  double const lost = (chain_terms - 1) * 0x1p-24, found = p.run(0, 1, true)[0];
  CHECK(found == 1);
  CHECK(lost <= gamma(product_roundings(chain_terms), unit_float) * (1 + lost));
  CHECK(lost >= 0.9 * gamma(product_roundings(chain_terms), unit_float));
}

TEST_CASE("no terms, no rows, no columns") {
  for (std::size_t const rows : {0u, 1u, 14u}) {
    problem const none(0, 5);
    for (float const value : none.run(0, rows, true)) CHECK(value == 0);
    for (float const value : none.run(0, rows, false)) CHECK(value == 7.5f);
    CHECK(problem(4, 0).run(0, rows, true).empty());
  }
}

TEST_CASE("NaN and infinity are not lost") {
  problem p(70, 33);
  p.a[65] = std::numeric_limits<float>::infinity();
  p.a[2 * 70] = std::numeric_limits<float>::quiet_NaN();
  auto const c = p.run(0, 13, true);
  for (std::size_t j = 0; j < 33; ++j) {
    CHECK(!std::isfinite(c[j]));
    CHECK(std::isfinite(c[33 + j]));
    CHECK(std::isnan(c[66 + j]));
  }
}

#ifdef _OPENMP
TEST_CASE("threads do not change a bit") {
  int const before = omp_get_max_threads();
  problem const p(600, 700);
  omp_set_num_threads(1);
  auto const one = p.run(0, 40, true);
  omp_set_num_threads(3);
  auto const three = p.run(0, 40, true);
  CHECK(same(one.data(), three.data(), one.size()));
  omp_set_num_threads(before);
}
#endif
