// SPDX-License-Identifier: Apache-2.0
// Sums in double on a fixed number of lanes: the compiler vectorises them, the order of summation never changes.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace hull::cpu {

inline constexpr std::size_t sum_lanes = 16;

template <std::size_t Sums>
using lane_sums = std::array<std::array<double, sum_lanes>, Sums>;

/// x >= 0 ? above : below, of numbers that are both there, without a branch. In loops over lanes nothing may be read
/// under a condition: gcc 12 makes masked reads of it, and gives some of them the mask of other lanes (seen at -O3, in
/// sums that lost terms; a test of relax_rows compares with plain loops).
template <class T>
[[nodiscard]] inline T by_sign(float x, T above, T below) {
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  bits const mask = x >= 0 ? ~bits{0} : bits{0};
  return std::bit_cast<T>((std::bit_cast<bits>(above) & mask) | (std::bit_cast<bits>(below) & ~mask));
}

/// Calls body(i, lane) for i = 0 .. count - 1, in groups of sum_lanes. `body` reads nothing under a condition
/// (by_sign). Flattened: a body that stays a call, since it has two callers here, does not vectorise.
template <class Body>
[[gnu::flatten]] inline void for_lanes(std::size_t count, Body&& body) {
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
  static_assert(sum_lanes == 16);
  // in pairs, not one long chain of additions; constant bounds, so that this stays in registers
  double eight[8], four[4];
  for (std::size_t lane = 0; lane < 8; ++lane) eight[lane] = sums[lane] + sums[lane + 8];
  for (std::size_t lane = 0; lane < 4; ++lane) four[lane] = eight[lane] + eight[lane + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

}  // namespace hull::cpu
