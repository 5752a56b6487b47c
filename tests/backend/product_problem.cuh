// SPDX-License-Identifier: Apache-2.0
// Hostile products for tests of kernels that multiply: numbers that cancel, underflow or lose places, and sums of them
// that are exact enough to measure errors by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <hull/backend/cuda/gathered.cuh>
#include <hull/propagate/rounding_error.hpp>

#include "support/uploaded.cuh"

namespace hull::reference {

inline float from_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline bool same_bits(std::vector<float> const& a, std::vector<float> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

enum class numbers {
  normal,
  cancelling,
  wide,
  spiked,
  low_bits,
  subnormal,
  faint,
  low_places,
  half_place,
  extreme,
  mixed_zero
};
inline constexpr numbers all_numbers[] = {
    numbers::normal, numbers::cancelling, numbers::wide,       numbers::spiked,  numbers::low_bits,  numbers::subnormal,
    numbers::faint,  numbers::low_places, numbers::half_place, numbers::extreme, numbers::mixed_zero};

/// Number k of a sum. `left`: of A, else of B.
inline float draw(numbers kind, std::size_t k, bool left, std::mt19937& random) {
  float const x = std::normal_distribution<float>()(random);
  int const any = static_cast<int>(random() % 1024);
  switch (kind) {
    case numbers::normal:
      return x;
    case numbers::cancelling:
      return left ? (k % 2 ? -1.0f : 1.0f) * (1 + 1e-3f * x) : 1 + 1e-3f * x;
    case numbers::wide:
      return std::ldexp(x, any % 201 - 100) * (left ? 1.0f : 0.0f) + (left ? 0.0f : x);
    case numbers::spiked:
      return k % 7 == 0 ? std::ldexp(x, 40) : x;
    case numbers::low_bits:
      return from_bits(bits_of(x) | 0xfffu);
    case numbers::subnormal:
      return std::ldexp(x, left ? any % 50 - 140 : any % 9 + 60);
    case numbers::faint:
      return std::ldexp(x, left ? any % 9 + 60 : any % 50 - 140);
    case numbers::low_places:
      return from_bits((0x3f800000u + static_cast<unsigned>(any % 4) * 0x2000u) | 0x1fffu);
    case numbers::half_place:
      return from_bits((0x3f800fffu + static_cast<unsigned>(any % 3)) | (left && k % 2) << 31);
    case numbers::extreme:
      return std::ldexp(x, left ? any % 201 - 100 : 15 - any % 31) * (k % 3 ? 1.0f : -1.0f);
    case numbers::mixed_zero:
      return any % 3 == 0 ? 0.0f : std::ldexp(x, any % 2 ? 30 : -30);
  }
  return x;
}

/// One product; B is gathered from a larger matrix whose rows are out of order and some of whose columns are missing.
template <bool Transposed>
struct problem final {
  std::size_t rows, terms, columns, stride, c_stride;
  std::vector<float> a, weight, c;
  std::vector<index_t> list_rows, list_columns;

  problem(std::size_t rows_, std::size_t terms_, std::size_t columns_, numbers kind, unsigned seed)
      : rows(rows_), terms(terms_), columns(columns_), c_stride(columns_ + 3) {
    std::mt19937 random(seed);
    std::size_t const height = (Transposed ? columns : terms) + 5;
    stride = (Transposed ? terms : columns) + 7;
    for (std::size_t i = 0; i < rows * terms; ++i) a.push_back(draw(kind, i % terms, true, random));
    for (std::size_t i = 0; i < height * stride; ++i) {
      weight.push_back(draw(kind, Transposed ? i % stride : i / stride, false, random));
    }
    for (std::size_t i = 0; i < rows * c_stride; ++i) c.push_back(draw(numbers::normal, i, true, random));
    for (std::size_t i = 0; i < height; ++i) list_rows.push_back(static_cast<index_t>(i));
    std::shuffle(list_rows.begin(), list_rows.end(), random);
    for (std::size_t i = 0; i < stride; ++i) list_columns.push_back(static_cast<index_t>(i));
    for (int i = 0; i < 7; ++i) {
      list_columns.erase(list_columns.begin() + static_cast<std::ptrdiff_t>(random() % list_columns.size()));
    }
  }
  [[nodiscard]] float b(std::size_t k, std::size_t j) const {
    if constexpr (Transposed) return weight[list_rows[j] * stride + list_columns[k]];
    return weight[list_rows[k] * stride + list_columns[j]];
  }
  /// C after multiply(a, rows, B, c), of `count` rows from `first` on; all on the device.
  template <class Multiply>
  [[nodiscard]] std::vector<float> run(Multiply&& multiply, std::size_t first, std::size_t count) const {
    uploaded<float> const on_a(std::vector<float>(a.begin() + static_cast<std::ptrdiff_t>(first * terms),
                                                  a.begin() + static_cast<std::ptrdiff_t>((first + count) * terms)));
    uploaded<float> const on_c(std::vector<float>(c.begin() + static_cast<std::ptrdiff_t>(first * c_stride),
                                                  c.begin() + static_cast<std::ptrdiff_t>((first + count) * c_stride)));
    uploaded<float> const on_weight(weight);
    uploaded<index_t> const on_rows(list_rows), on_columns(list_columns);
    cuda::gathered<Transposed> const b{on_weight.get(), static_cast<unsigned>(stride), on_rows.get(), on_columns.get()};
    multiply(on_a.get(), count, b, on_c.get());
    return on_c.read();
  }
};

/// What a kernel may lose, by its page of soundness, beside roundings of what C held.
struct product_errors final {
  double relative, product_floor, operand_floor;
  double range = 0;  // relative to the largest number of the row of A, and of the weights
};

/// Largest error of the results relative to what may be lost. Sums in long double: 64 bits, a term
/// has 48; what they round is far below the bound.
template <bool Transposed>
double worst_ratio(problem<Transposed> const& p, product_errors const& may, std::vector<float> const& found,
                   bool overwrite) {
  float largest_weight = 0;
  for (float const w : p.weight) largest_weight = std::max(largest_weight, std::fabs(w));
  double worst = 0;
  for (std::size_t r = 0; r < p.rows; ++r) {
    float largest = 0;
    for (std::size_t k = 0; k < p.terms; ++k) largest = std::max(largest, std::fabs(p.a[r * p.terms + k]));
    for (std::size_t j = 0; j < p.c_stride; ++j) {
      float const before = p.c[r * p.c_stride + j], after = found[r * p.c_stride + j];
      if (j >= p.columns) {
        if (bits_of(before) != bits_of(after)) worst = std::numeric_limits<double>::infinity();  // not ours
        continue;
      }
      long double sum = overwrite ? 0 : before, magnitude = 0, floor = 0;
      for (std::size_t k = 0; k < p.terms; ++k) {
        long double const x = p.a[r * p.terms + k], y = p.b(k, j);
        sum += x * y, magnitude += std::fabs(x * y);
        floor += may.product_floor + may.operand_floor * (std::fabs(x) + std::fabs(y));
        floor += may.range * (largest * std::fabs(y) + largest_weight * std::fabs(x));
      }
      long double const bound = may.relative * magnitude + floor +
                                (overwrite ? 0 : gamma(product_additions(p.terms), unit_float) * std::fabs(before));
      long double const error = std::fabs(static_cast<long double>(after) - sum);
      if (error == 0) continue;
      double const ratio = static_cast<double>(error / bound);
      worst = ratio <= 1e30 ? std::max(worst, ratio) : std::numeric_limits<double>::infinity();  // NaN too
    }
  }
  return worst;
}

}  // namespace hull::reference
