// SPDX-License-Identifier: Apache-2.0
// Conv with halfs on the device against exact sums, for many shapes, hostile numbers, NaN and infinity; equal to the
// bit from run to run, and for a row alone and among others.
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/half_product.cuh>
#include <hull/propagate/rounding_error.hpp>

#include "backend/conv_problem.cuh"

using namespace hull;
using namespace hull::reference;

namespace {

/// Numbers that are further from the exact sums than precision.cuh and product_cost.cuh state, element by element.
std::size_t half_misses(problem const& p, std::size_t rows, std::vector<float> const& a_y, sums const& exact,
                        std::vector<float> const& found) {
  std::size_t const ins = p.x.live.size(), outs = p.y.live.size();
  std::size_t const roundings = gpu::conv_roundings(p.out, p.s.filter) + gpu::conv_additions(p.out, p.s.filter);
  double const chain = gpu::half_order::chain_error(chain_terms);
  double const share =
      chain + (1 + chain) * gamma(roundings - gpu::conv_in_chain(p.out, p.s.filter), unit_float) + 1e-12;
  double const terms = static_cast<double>(gpu::conv_terms(p.out, p.s.filter));
  double b_max = 0;
  for (float const w : p.weight) b_max = std::max<double>(b_max, std::fabs(w));
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    double a_max = 0;
    for (std::size_t k = 0; k < outs; ++k) a_max = std::max<double>(a_max, std::fabs(a_y[r * outs + k]));
    double const range = 2 * gpu::half_order::range_error * a_max * b_max * terms;
    double const floor =
        terms * (gpu::half_order::product_floor + gpu::half_order::operand_floor * (a_max + b_max)) + 0x1p-149;
    for (std::size_t i = r * ins; i < (r + 1) * ins; ++i) {
      if (!(std::fabs(found[i] - exact.value[i]) <= share * exact.magnitude[i] + range + floor)) ++count;
    }
  }
  return count;
}

}  // namespace

TEST_CASE("conv_backward with halfs is within its stated error, and independent of what runs beside a row") {
  constexpr auto halfs = gpu::conv_numbers::halfs;
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    std::size_t const ins = p.x.live.size(), outs = p.y.live.size(), most = 40;
    std::vector<float> a_y = p.rows(most, 41), old = stage_copy::numbers(most * ins, 42);
    std::mt19937 random(7);
    for (std::size_t r = 0; r < most; ++r) {  // huge, tiny, subnormal, and of all sizes at once
      int const size = r % 8 == 1 ? 100 : r % 8 == 2 ? -100 : r % 8 == 3 ? -130 : r % 8 == 4 ? -143 : 0;
      for (std::size_t k = r * outs; k < (r + 1) * outs; ++k) {
        a_y[k] = std::ldexp(a_y[k], r % 8 == 5 ? static_cast<int>(random() % 60) - 30 : size);
      }
      if (size != 0) std::fill(old.begin() + r * ins, old.begin() + (r + 1) * ins, 0.0f);
      if (r % 16 == 7) std::fill(a_y.begin() + r * outs, a_y.begin() + (r + 1) * outs, 0.0f);
    }
    std::vector<float> const all = backward_on_device<halfs>(p, most, a_y, old);
    CHECK(half_misses(p, most, a_y, exact(p, true, most, a_y, &old), all) == 0);
    std::vector<float> const again = backward_on_device<halfs>(p, most, a_y, old);
    CHECK(same(all.data(), again.data(), all.size()));
    for (std::size_t const rows : {std::size_t{1}, std::size_t{5}}) {
      for (std::size_t const first : {std::size_t{0}, std::size_t{9}, std::size_t{33}}) {
        std::vector<float> const few(a_y.begin() + first * outs, a_y.begin() + (first + rows) * outs);
        std::vector<float> const few_old(old.begin() + first * ins, old.begin() + (first + rows) * ins);
        std::vector<float> const found = backward_on_device<halfs>(p, rows, few, few_old);
        CHECK(same(found.data(), all.data() + first * ins, rows * ins));
      }
    }

    // a row with NaN, and one with infinity: nothing that they reach is a number, and no other row changes
    for (float const bad : {NAN, INFINITY}) {
      std::vector<float> broken = a_y;
      broken[6 * outs + outs / 2] = bad;
      std::vector<float> const found = backward_on_device<halfs>(p, most, broken, old);
      sums const wanted = exact(p, true, most, broken, &old);
      std::size_t numbers = 0;
      for (std::size_t i = 6 * ins; i < 7 * ins; ++i)
        numbers += !std::isfinite(wanted.value[i]) && std::isfinite(found[i]);
      CHECK(numbers == 0);
      CHECK(same(found.data(), all.data(), 6 * ins));
      CHECK(same(found.data() + 7 * ins, all.data() + 7 * ins, (most - 7) * ins));
    }
  }
}
