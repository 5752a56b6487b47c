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
  if (i == count) return;
#ifndef __clang__
#pragma GCC ivdep
#endif
  for (std::size_t lane = 0; lane < sum_lanes; ++lane) {  // all lanes, some idle: masks instead of a scalar loop
    if (lane < count - i) body(i + lane, lane);
  }
}

[[nodiscard]] inline double total(std::array<double, sum_lanes> const& sums) {
  static_assert(sum_lanes == 16);
  // in pairs, not one long chain of additions; constant bounds, so that this stays in registers
  double eight[8], four[4];
  for (std::size_t lane = 0; lane < 8; ++lane) eight[lane] = sums[lane] + sums[lane + 8];
  for (std::size_t lane = 0; lane < 4; ++lane) four[lane] = eight[lane] + eight[lane + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

}  // namespace hull::cpu
