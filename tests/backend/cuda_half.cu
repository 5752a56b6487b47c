// SPDX-License-Identifier: Apache-2.0
// Products of pairs of halfs (Fp16x3): the assumption about the hardware, errors against exact sums on hostile numbers,
// order of summation to the bit, NaN and infinity. Last, times beside products in single precision.
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_product.cuh>
#include <hull/backend/cuda/product.cuh>
#include <hull/backend/cuda/tensor_product.cuh>

#include "backend/milliseconds.cuh"
#include "backend/product_problem.cuh"
#include "support/brief.hpp"
#include "support/uploaded.cuh"

using namespace hull;
using namespace hull::reference;
namespace gpu = hull::cuda;  // libcu++ has a namespace cuda, too

namespace {

bool runs_here() {
  if (gpu::has_wgmma()) return true;
  MESSAGE("skipped: the device is not of compute capability 9.0");
  return false;
}

template <class Tile = void, bool Transposed>
std::vector<float> run(problem<Transposed> const& p, bool overwrite, std::size_t first, std::size_t count) {
  auto const scratch = gpu::allocate<float>(gpu::half_scratch_floats(p.terms, p.columns));
  float largest = 0;
  for (float const w : p.weight) largest = std::max(largest, std::fabs(w));
  return p.run(
      [&](float const* a, std::size_t rows, gpu::gathered<Transposed> const& b, float* c) {
        gpu::half_product<Tile>(nullptr, gpu::processors_of_device(), {a, p.terms}, rows, p.terms, b, p.columns,
                                largest, c, p.c_stride, overwrite, scratch.get());
      },
      first, count);
}
template <class Tile = void, bool Transposed>
std::vector<float> run(problem<Transposed> const& p, bool overwrite) {
  return run<Tile>(p, overwrite, 0, p.rows);
}

template <bool Transposed>
double worst_ratio(problem<Transposed> const& p, std::vector<float> const& found, bool overwrite) {
  using order = gpu::half_order;
  return worst_ratio(p,
                     {order::relative_error(p.terms), order::product_floor, order::operand_floor, order::range_error},
                     found, overwrite);
}

template <bool Transposed>
void check_shapes(double& worst) {
  unsigned seed = 1;
  std::size_t const shapes[][3] = {{1, 1, 1},       {1, 9, 130},    {5, 32, 64},    {64, 33, 65},     {65, 64, 31},
                                   {130, 100, 129}, {129, 777, 40}, {17, 777, 257}, {128, 2048, 128}, {3, 9000, 3}};
  for (auto const& [rows, terms, columns] : shapes) {
    for (numbers const kind : all_numbers) {
      if (brief() && kind != numbers::wide) continue;
      problem<Transposed> const p(rows, terms, columns, kind, ++seed);
      for (bool const overwrite : {true, false}) {
        std::vector<float> const found = run(p, overwrite);
        double const ratio = worst_ratio(p, found, overwrite);
        CAPTURE(rows);
        CAPTURE(terms);
        CAPTURE(columns);
        CAPTURE(static_cast<int>(kind));
        CAPTURE(overwrite);
        CHECK(ratio <= 1);
        worst = std::max(worst, ratio);
        CHECK(same_bits(found, run<gpu::large_half_tile>(p, overwrite)));
        CHECK(same_bits(found, run<gpu::middle_half_tile>(p, overwrite)));
        CHECK(same_bits(found, run<gpu::small_half_tile>(p, overwrite)));
      }
    }
  }
}

}  // namespace

TEST_CASE("sums of halfs are within the model of the hardware") {
  if (!runs_here()) return;
  std::mt19937 random(5);
  double worst = 0;
  for (int const range : {1, 6, 12}) {
    for (std::size_t const terms : {16, 32}) {
      problem<false> p(300, terms, 200, numbers::normal, 4);
      auto const number = [&] {  // 11 places: a half, whatever the scale
        float const x = std::ldexp(std::normal_distribution<float>()(random), static_cast<int>(random() % range));
        return from_bits(bits_of(x) & 0xffffe000u);
      };
      for (float& x : p.a) x = number();
      for (float& x : p.weight) x = number();
      // groups of small parts add zeros, and the only chain is added to zero
      double const error = static_cast<double>(terms / 4) * gpu::tensor_order::group_error;
      worst = std::max(worst, worst_ratio(p, {error, 0, 0, gpu::half_order::range_error}, run(p, true), true));
    }
  }
  MESSAGE("sums of 16 and 32 halfs: largest error / bound " << worst);
  CHECK(worst <= 1);
}

TEST_CASE("errors are within the bound, equal to the bit for every tile") {
  if (!runs_here()) return;
  double worst = 0;
  SUBCASE("rows and columns") { check_shapes<false>(worst); }
  SUBCASE("transposed") { check_shapes<true>(worst); }
  MESSAGE("largest error / bound " << worst);
}

TEST_CASE_TEMPLATE("tails", Tile, gpu::large_half_tile, gpu::middle_half_tile, gpu::small_half_tile) {
  if (!runs_here()) return;
  double worst = 0;
  auto const check = [&]<bool Transposed>(std::size_t rows, std::size_t terms, std::size_t columns) {
    problem<Transposed> const p(rows, terms, columns, numbers::normal, static_cast<unsigned>(rows + terms + columns));
    bool const overwrite = (rows + terms) % 2 == 0;
    double const ratio = worst_ratio(p, run<Tile>(p, overwrite), overwrite);
    CAPTURE(rows);
    CAPTURE(terms);
    CAPTURE(columns);
    CAPTURE(Transposed);
    CHECK(ratio <= 1);
    worst = std::max(worst, ratio);
  };
  for (std::size_t i = 1; i <= 260; i += 3) {
    check.template operator()<false>(i, 40, 261 - i);
    check.template operator()<true>(i, 40, 261 - i);
    check.template operator()<false>(33, i, 9);
    check.template operator()<true>(9, i, 33);
  }
  check.template operator()<false>(7, 777, 7);
  check.template operator()<true>(7, 777, 7);
  MESSAGE("largest error / bound " << worst);
}

TEST_CASE("no terms") {
  if (!runs_here()) return;
  problem<false> const p(3, 0, 4, numbers::normal, 1);
  CHECK(same_bits(run(p, false), p.c));
  CHECK(run(p, true)[1] == 0);
}

TEST_CASE("a row is the same to the bit alone, among others, and from run to run; several panels") {
  if (!runs_here()) return;
  auto const check = [&]<bool Transposed>(std::size_t rows, std::size_t terms, std::size_t columns) {
    problem<Transposed> const p(rows, terms, columns, numbers::wide, 3);
    std::vector<float> const whole = run(p, false);
    for (int i = 0; i < 3; ++i) CHECK(same_bits(whole, run(p, false)));
    for (std::size_t const count : {std::size_t{1}, std::size_t{7}, std::size_t{100}}) {
      for (std::size_t first = 0; first + count <= rows; first += rows / 5 + 1) {
        std::vector<float> const part = run(p, false, first, count);
        CHECK(std::memcmp(part.data(), whole.data() + first * p.c_stride, part.size() * sizeof(float)) == 0);
      }
    }
  };
  check.template operator()<false>(1500, 200, 1300);
  check.template operator()<true>(1500, 200, 1300);
  check.template operator()<true>(200, 333, 64);
  check.template operator()<false>(gpu::half_panel + 70, 40, 30);
  check.template operator()<true>(30, 40, gpu::half_panel + 70);
  check.template operator()<false>(20, 2 * gpu::half_panel + 70, 30);
}

TEST_CASE("NaN, infinity and large numbers never give a wrong finite sum, and stay in their row") {
  if (!runs_here()) return;
  float const infinity = std::numeric_limits<float>::infinity();
  float const hostile[] = {from_bits(0x7fffffffu),
                           from_bits(0xffffffffu),
                           from_bits(0x7f800001u),
                           from_bits(0xff800001u),
                           infinity,
                           -infinity};
  for (float const bad : hostile) {
    for (std::size_t const at : {0, 5, 31, 32, 76}) {
      problem<true> p(9, 77, 50, numbers::mixed_zero, 8);  // weights of zero too
      p.a[4 * p.terms + at] = bad;
      std::vector<float> const found = run(p, false);
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < p.rows; ++r) {
        for (std::size_t j = 0; j < p.columns; ++j) wrong += std::isfinite(found[r * p.c_stride + j]) == (r == 4);
      }
      CHECK(wrong == 0);
    }
  }
  // numbers as large and as small as floats are; the sums do not overflow
  for (float const factor : {0x1p120f, 0x1p-120f, 0x1p-140f}) {
    problem<false> p(70, 40, 20, numbers::normal, 9);
    for (float& x : p.a) x *= factor;
    CHECK(worst_ratio(p, run(p, true), true) <= 1);
    problem<false> q(70, 40, 20, numbers::normal, 9);
    for (float& x : q.weight) x *= factor;
    CHECK(worst_ratio(q, run(q, true), true) <= 1);
  }
}

TEST_CASE("times") {
  if (!runs_here()) return;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (std::size_t const n : {std::size_t{1024}, std::size_t{2048}, std::size_t{4096}, std::size_t{8192}}) {
    std::vector<float> numbers(n * n);
    for (float& x : numbers) x = normal(random);
    std::vector<index_t> list(n);
    for (std::size_t i = 0; i < n; ++i) list[i] = static_cast<index_t>(i);
    uploaded<float> const a(numbers), w(numbers), c(numbers);
    uploaded<index_t> const all(list);
    auto const scratch = gpu::allocate<float>(gpu::half_scratch_floats(n, n));
    std::size_t const count = gpu::processors_of_device();
    auto const report = [&](std::string const& what, double time) {
      MESSAGE(n << ": " << what << ' ' << time << " ms, " << 2e-9 * static_cast<double>(n * n * n) / time
                << " TFLOP/s");
    };
    auto const stride = static_cast<unsigned>(n);
    gpu::gathered<false> const b{w.get(), stride, all.get(), all.get()};
    gpu::gathered<true> const t{w.get(), stride, all.get(), all.get()};
    auto const halfs = [&]<class Tile>(auto const& of) {
      return milliseconds([&] {
        gpu::half_product<Tile>(nullptr, count, {a.get(), n}, n, n, of, n, 8.0f, c.get(), n, true, scratch.get());
      });
    };
    report("Fp16x3", halfs.template operator()<void>(b));
    report("Fp16x3, transposed", halfs.template operator()<void>(t));
    report("Fp16x3, large tile", halfs.template operator()<gpu::large_half_tile>(b));
    report("Fp16x3, middle tile", halfs.template operator()<gpu::middle_half_tile>(b));
    report("Fp16x3, small tile", halfs.template operator()<gpu::small_half_tile>(b));
    report("Fp16x3, 64 rows",
           milliseconds([&] {
             gpu::half_product(nullptr, count, {a.get(), n}, 64, n, b, n, 8.0f, c.get(), n, true, scratch.get());
           }) * static_cast<double>(n) /
               64);
    report("packing alone", milliseconds([&] {
             gpu::packed_lines const to{reinterpret_cast<uint4*>(scratch.get() + gpu::half_panel),
                                        static_cast<unsigned>(std::min(n, gpu::half_panel))};
             gpu::pack_rows_kernel<256><<<to.lines, 256>>>(a.get(), n, stride, to, scratch.get());
             gpu::pack_columns_kernel<<<dim3(to.lines / 64, stride / 32), 256>>>(b, 0, stride, 0, to.lines, to, 1.0f);
           }));
    report("Tf32x3", milliseconds([&] {
             gpu::tensor_product(nullptr, count, {a.get(), n}, n, n, b, n, c.get(), n, true);
           }));
    report("fp32", milliseconds([&] { gpu::product(nullptr, count, {a.get(), n}, n, n, b, n, c.get(), n, true); }));
  }
}
