// SPDX-License-Identifier: Apache-2.0
// One free column of one row: its line for a parameter, its constraint, and how a parameter climbs. For every backend.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/core/config.hpp>
#include <hull/propagate/free.hpp>

namespace hull {

/// The line at parameter alpha of one side of free column f.
struct free_side final {
  float const *slope_zero, *slope_one, *shift_zero, *shift_one;

  [[nodiscard]] HULL_FN float slope(std::size_t f, float alpha) const {
    return slope_zero[f] + alpha * (slope_one[f] - slope_zero[f]);
  }
  [[nodiscard]] HULL_FN double shift(std::size_t f, float alpha) const {
    double const zero = shift_zero[f];
    return zero + static_cast<double>(alpha) * (static_cast<double>(shift_one[f]) - zero);
  }
  /// Derivative of the line's value at t = origin + d.
  [[nodiscard]] HULL_FN float gradient(std::size_t f, float d) const {
    return (slope_one[f] - slope_zero[f]) * d + (shift_one[f] - shift_zero[f]);
  }
};
[[nodiscard]] HULL_FN inline free_side side_of(free_columns const& f, bool lower) {
  if (lower) return {f.zero.lower_slope, f.one.lower_slope, f.zero.lower_shift, f.one.lower_shift};
  return {f.zero.upper_slope, f.one.upper_slope, f.zero.upper_shift, f.one.upper_shift};
}

/// The multiplier's form: beta * constraint(z) >= 0 may be taken off the row. It is bounded by the line of z that makes
/// it largest, -beta z for z >= 0 and beta z for z <= 0.
struct constraint_line final {
  float slope, shift;
};
[[nodiscard]] HULL_FN inline constraint_line constraint_of(free_columns const& f, std::size_t at, float sign) {
  if (sign > 0) return {-f.kink.upper_slope[at], -f.kink.upper_shift[at]};
  return {f.kink.lower_slope[at], f.kink.lower_shift[at]};
}

/// The first multiplier of a split of free column f: the one that leaves the row's coefficient x as it was before the
/// split. `lines`: of the column's side.
[[nodiscard]] HULL_FN inline float first_beta(free_columns const& f, std::size_t at, float x, float alpha,
                                              line_arrays const& lines, constraint_line constraint) {
  bool const positive = x >= 0;
  float const before = side_of(f, positive).slope(at, alpha);
  float const now = positive ? lines.lower_slope[at] : lines.upper_slope[at];
  float const start = x * (before - now) / constraint.slope;
  return start > 0 && std::isfinite(start) ? start : 0;
}

/// One step of Adam for one parameter, kept in [0, most].
HULL_FN inline void climb(float& x, float& mean, float& square, float gradient, float rate, adam_step const& adam,
                          float most) {
  constexpr float keep_mean = adam_step::keep_mean, keep_square = adam_step::keep_square;
  float const g = std::isfinite(gradient) ? gradient : 0.0f;
  mean = keep_mean * mean + (1 - keep_mean) * g;
  square = keep_square * square + (1 - keep_square) * g * g;
  float const moved = x + rate * mean / (std::sqrt(square * adam.correction) + adam_step::floor);
  x = moved > 0 ? (moved < most ? moved : most) : 0.0f;  // NaN becomes 0
}

}  // namespace hull
