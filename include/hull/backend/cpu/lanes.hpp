// SPDX-License-Identifier: Apache-2.0
// Sums in double on a fixed number of lanes: the compiler vectorises them, the order of summation never changes.
#pragma once

#include <array>
#include <cstddef>

namespace hull::cpu {

inline constexpr std::size_t sum_lanes = 16;

template <std::size_t Sums>
using lane_sums = std::array<std::array<double, sum_lanes>, Sums>;

/// Calls body(i, lane) for i = 0 .. count - 1, in groups of sum_lanes.
template <class Body>
inline void for_lanes(std::size_t count, Body&& body) {
  std::size_t i = 0;
  for (; i + sum_lanes <= count; i += sum_lanes) {
#ifndef __clang__  // which sees by itself that lanes do not overlap
#pragma GCC ivdep
#endif
    for (std::size_t lane = 0; lane < sum_lanes; ++lane) body(i + lane, lane);
  }
  for (std::size_t lane = 0; i + lane < count; ++lane) body(i + lane, lane);
}

[[nodiscard]] inline double total(std::array<double, sum_lanes> const& sums) {
  double sum = 0;
  for (double const one : sums) sum += one;
  return sum;
}

}  // namespace hull::cpu
