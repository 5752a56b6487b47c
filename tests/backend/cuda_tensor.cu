// SPDX-License-Identifier: Apache-2.0
// Products on tensor cores: the assumptions about the hardware, errors against exact sums on hostile numbers, order of
// summation to the bit, NaN and infinity. Last, times beside products in single precision.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#ifdef HULL_CUBLAS
#include <cublas_v2.h>
#endif

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/product.cuh>
#include <hull/backend/cuda/tensor_product.cuh>
#include <hull/propagate/rounding_error.hpp>

#include "backend/milliseconds.cuh"
#include "backend/product_problem.cuh"
#include "support/brief.hpp"
#include "support/uploaded.cuh"

using namespace hull;
using namespace hull::reference;
namespace gpu = hull::cuda;  // libcu++ has a namespace cuda, too

namespace {

/// C after the product, of `count` rows from `first` on. `Tile` void: the one that the library chooses.
template <class Tile = void, bool Transposed>
std::vector<float> run(problem<Transposed> const& p, bool overwrite, std::size_t first, std::size_t count) {
  return p.run(
      [&](float const* a, std::size_t rows, gpu::gathered<Transposed> const& b, float* c) {
        if constexpr (std::is_void_v<Tile>) {
          gpu::tensor_product(nullptr, gpu::processors_of_device(), {a, p.terms}, rows, p.terms, b, p.columns, c,
                              p.c_stride, overwrite);
        } else {
          gpu::launch_tensor_product<Tile>(nullptr, {a, p.terms}, rows, p.terms, b, p.columns, c, p.c_stride,
                                           overwrite);
        }
      },
      first, count);
}
template <class Tile = void, bool Transposed>
std::vector<float> run(problem<Transposed> const& p, bool overwrite) {
  return run<Tile>(p, overwrite, 0, p.rows);
}

template <bool Transposed>
double worst_ratio(problem<Transposed> const& p, std::vector<float> const& found, bool overwrite) {
  using order = gpu::tensor_order;
  return worst_ratio(p, {order::relative_error(p.terms), order::product_floor, order::operand_floor}, found, overwrite);
}

/// One instruction for each warp: D = A B + C with A [16, 8], B [8, 8] by columns, C and D [16, 8].
__global__ void instruction_kernel(float const* a, float const* b, float const* c, float* d) {
  unsigned const g = threadIdx.x / 4, t = threadIdx.x % 4;
  a += blockIdx.x * 128, b += blockIdx.x * 64, c += blockIdx.x * 128, d += blockIdx.x * 128;
  unsigned x[4], y[2];
  float from[4], to[4];
  for (unsigned e = 0; e < 4; ++e) {
    x[e] = __float_as_uint(a[(g + e % 2 * 8) * 8 + t + e / 2 * 4]);
    from[e] = c[(g + e / 2 * 8) * 8 + 2 * t + e % 2];
  }
  for (unsigned e = 0; e < 2; ++e) y[e] = __float_as_uint(b[g * 8 + t + e * 4]);
  gpu::multiply(to, x, y, from);
  for (unsigned e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = to[e];
}
std::vector<float> instructions(std::vector<float> const& a, std::vector<float> const& b, std::vector<float> const& c) {
  uploaded<float> const on_a(a), on_b(b), on_c(c);
  instruction_kernel<<<static_cast<unsigned>(a.size() / 128), 32>>>(on_a.get(), on_b.get(), on_c.get(), on_c.get());
  gpu::check_launch("instructions");
  return on_c.read();
}

template <bool Transposed>
void check_shapes(double& worst) {
  unsigned seed = 1;
  std::size_t const shapes[][3] = {{1, 1, 1},       {1, 9, 130},    {5, 32, 64},    {64, 33, 65},     {65, 64, 31},
                                   {130, 100, 129}, {129, 777, 40}, {17, 777, 200}, {128, 2048, 128}, {3, 5000, 3}};
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
        CHECK(same_bits(found, run<gpu::large_tensor_tile>(p, overwrite)));
        CHECK(same_bits(found, run<gpu::middle_tensor_tile>(p, overwrite)));
        CHECK(same_bits(found, run<gpu::small_tensor_tile>(p, overwrite)));
      }
    }
  }
}

}  // namespace

TEST_CASE("the error of the instruction is within the model") {
  std::mt19937 random(5);
  std::size_t const count = 4000;
  double worst = 0;
  std::size_t signs[2] = {};
  for (int kind = 0; kind < 4; ++kind) {
    std::vector<float> a, b, c;
    auto const number = [&](int range) {
      float const x =
          std::ldexp(std::normal_distribution<float>()(random),
                     range == 0 ? 0 : static_cast<int>(random() % static_cast<unsigned>(range)) - range / 2);
      return from_bits(bits_of(x) & 0xffffe000u);
    };
    int const range[] = {0, 8, 30, 50};
    for (std::size_t i = 0; i < count * 128; ++i) a.push_back(number(range[kind]));
    for (std::size_t i = 0; i < count * 64; ++i) b.push_back(number(range[kind]));
    for (std::size_t i = 0; i < count * 128; ++i)
      c.push_back(std::normal_distribution<float>()(random) * (i % 3 ? 1 : 64));
    std::vector<float> const d = instructions(a, b, c);
    for (std::size_t i = 0; i < count * 128; ++i) {
      long double sum = c[i], magnitude = std::fabs(c[i]);
      for (std::size_t k = 0; k < 8; ++k) {
        long double const p = static_cast<long double>(a[i / 8 * 8 + k]) * b[i / 128 * 64 + i % 8 * 8 + k];
        sum += p, magnitude += std::fabs(p);
      }
      long double const error = d[i] - sum, bound = 2 * gpu::tensor_order::group_error * magnitude;
      worst = std::max(worst, static_cast<double>(std::fabs(error) / bound));
      if (error != 0) ++signs[(error < 0) == (sum > 0)];
    }
  }
  MESSAGE("one instruction: largest error / bound " << worst << ", towards zero " << signs[1] << ", away " << signs[0]);
  CHECK(worst <= 1);
}

TEST_CASE("places below TF32, overflow and infinity in the instruction") {
  auto const one = [](float x0, float y0, float x1, float y1, float c0) {
    std::vector<float> a(128, 0), b(64, 0), c(128, c0);
    a[0] = x0, b[0] = y0, a[1] = x1, b[1] = y1;
    return instructions(a, b, c)[0];
  };
  float const infinity = std::numeric_limits<float>::infinity();
  // 11 places are read at least, and nothing is added beyond the 12th
  float const read = one(from_bits(0x3f801fffu), 1, 0, 0, 0);
  CHECK(read >= 1.0f);
  CHECK(read <= from_bits(0x3f802000u));
  MESSAGE("1 + 2^-10 - 2^-23 is read as 1 + " << (read - 1) * 1024 << " * 2^-10");
  CHECK(one(0x1p100f, 0x1p100f, 0, 0, 0) == infinity);  // no saturation
  CHECK(one(0x1p100f, -0x1p100f, 0, 0, 1) == -infinity);
  CHECK(one(0x1p127f, 1, 0x1p127f, 1, 0) == infinity);
  CHECK(one(0x1p64f, 0x1.ffcp63f, 0x1p127f, 0x1p-10f, 0) == infinity);
  CHECK(one(1, 1, 1, 1, infinity) == infinity);
  CHECK(std::isnan(one(infinity, 0, 1, 1, 0)));
  CHECK(std::isnan(one(infinity, 1, -infinity, 1, 0)));
  CHECK(std::isnan(one(std::numeric_limits<float>::quiet_NaN(), 0, 1, 1, 0)));
  CHECK(std::isnan(one(from_bits(0x7fffffffu), 1, 1, 1, 0)));
  CHECK(one(0, 0x1p127f, 1, 0x1p-100f, 0) == 0x1p-100f);  // a zero does not set the exponent of alignment
  MESSAGE("a subnormal 2^-130 is read as " << one(0x1p-130f, 0x1p100f, 0, 0, 0) * 0x1p30f << " of itself");
}

TEST_CASE("errors are within the bound, equal to the bit for every tile") {
  double worst = 0;
  SUBCASE("rows and columns") { check_shapes<false>(worst); }
  SUBCASE("transposed") { check_shapes<true>(worst); }
  MESSAGE("largest error / bound " << worst);
}

TEST_CASE_TEMPLATE("tails", Tile, gpu::large_tensor_tile, gpu::middle_tensor_tile, gpu::small_tensor_tile) {
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
  for (std::size_t i = 1; i <= 130; ++i) {
    check.template operator()<false>(i, 40, 131 - i);
    check.template operator()<true>(i, 40, 131 - i);
    check.template operator()<false>(33, i, 9);
    check.template operator()<true>(9, i, 33);
  }
  check.template operator()<false>(7, 777, 7);
  check.template operator()<true>(7, 777, 7);
  MESSAGE("largest error / bound " << worst);
}

TEST_CASE("no terms") {
  problem<false> const p(3, 0, 4, numbers::normal, 1);
  CHECK(same_bits(run(p, false), p.c));
  CHECK(run(p, true)[1] == 0);
}

TEST_CASE("a row is the same to the bit alone, among others, and from run to run") {
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
}

TEST_CASE("NaN, infinity and numbers close to overflow never give a finite sum, and stay in their row") {
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
  for (float const large : {std::numeric_limits<float>::max(), 0x1.fffp127f, 0x1.ffep127f, 0x1p127f}) {
    problem<false> p(3, 40, 20, numbers::normal, 9);
    p.a[p.terms + 3] = large;
    std::vector<float> const found = run(p, true);
    for (std::size_t j = 0; j < p.columns; ++j) {
      double sum = 0, magnitude = 0;
      for (std::size_t k = 0; k < p.terms; ++k) {
        double const x = static_cast<double>(p.a[p.terms + k]) * static_cast<double>(p.b(k, j));
        sum += x, magnitude += std::fabs(x);
      }
      float const value = found[p.c_stride + j];
      CHECK((!std::isfinite(value) ||
             std::fabs(static_cast<double>(value) - sum) <= gpu::tensor_order::relative_error(p.terms) * magnitude));
    }
  }
}

TEST_CASE("times") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (std::size_t const n : {std::size_t{512}, std::size_t{1024}, std::size_t{2048}, std::size_t{4096}}) {
    std::vector<float> numbers(n * n + 3);
    for (float& x : numbers) x = normal(random);
    std::vector<index_t> list(n);
    for (std::size_t i = 0; i < n; ++i) list[i] = static_cast<index_t>(i);
    uploaded<float> const a(numbers), w(numbers), c(numbers);
    uploaded<index_t> const all(list);
    std::size_t const count = gpu::processors_of_device();
    auto const report = [&](std::string const& what, double time) {
      MESSAGE(n << ": " << what << ' ' << time << " ms, " << 2e-9 * static_cast<double>(n * n * n) / time
                << " TFLOP/s");
    };
    auto const stride = static_cast<unsigned>(n);
    gpu::gathered<false> const b{w.get(), stride, all.get(), all.get()};
    gpu::gathered<true> const t{w.get(), stride, all.get(), all.get()};
    // the number of terms is odd: rows of A are aligned to 4 bytes only
    auto const tensor = [&](auto const& of, std::size_t terms) {
      return milliseconds([&] {
        gpu::tensor_product(nullptr, count, {a.get(), terms}, n, terms, of, n, c.get(), n, true);
      });
    };
    report("Tf32x3", tensor(b, n));
    report("Tf32x3, one term less", tensor(b, n - 1));
    report("Tf32x3, transposed", tensor(t, n));
    report("Tf32x3, middle tile", milliseconds([&] {
             gpu::launch_tensor_product<gpu::middle_tensor_tile>(nullptr, {a.get(), n}, n, n, b, n, c.get(), n, true);
           }));
    report("fp32", milliseconds([&] { gpu::product(nullptr, count, {a.get(), n}, n, n, b, n, c.get(), n, true); }));
    report("fp32, transposed", milliseconds([&] {
             gpu::product(nullptr, count, {a.get(), n}, n, n, t, n, c.get(), n, true);
           }));
#ifdef HULL_CUBLAS
    cublasHandle_t handle;
    REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    float const one = 1, zero = 0;
    auto const size = static_cast<int>(n);
    auto const blas = [&](cublasMath_t mode) {
      cublasSetMathMode(handle, mode);
      return milliseconds([&] {  // column-major: C' = W' A'
        cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, size, size, size, &one, w.get(), size, a.get(), size, &zero,
                    c.get(), size);
      });
    };
    report("cublasSgemm, default", blas(CUBLAS_DEFAULT_MATH));
    report("cublasSgemm, pedantic", blas(CUBLAS_PEDANTIC_MATH));
    report("cublasSgemm, TF32", blas(CUBLAS_TF32_TENSOR_OP_MATH));
    cublasDestroy(handle);
#endif
  }
}
