// SPDX-License-Identifier: Apache-2.0
// The constants of sound propagation (docs/soundness.md derives them).
#pragma once

#include <cstddef>

#include <hull/core/config.hpp>

namespace hull {

/// Half the distance of neighbouring floats, relative: |fl(x) - x| <= unit_float |x|, underflow apart.
inline constexpr double unit_float = 0x1p-24;
inline constexpr double unit_double = 0x1p-53;

/// What underflow adds to one rounding of a float, flush-to-zero included.
inline constexpr double float_floor = 0x1p-126;

/// Relative error of a float computed with up to `roundings` roundings: k u / (1 - k u), u the unit; infinite when the
/// bound does not hold any more. A thousandth is added for the arithmetic on the bound itself.
[[nodiscard]] HULL_FN constexpr double gamma(std::size_t roundings, double unit) {
  double const k = static_cast<double>(roundings) * unit;
  return k < 0.5 ? k / (1 - k) * 1.001 : 1e300 * 1e300;
}

/// Terms that a sum in double on several lanes may have meet `terms + 64` roundings at most.
[[nodiscard]] HULL_FN constexpr double gamma_sum(std::size_t terms) { return gamma(terms + 64, unit_double); }

}  // namespace hull
