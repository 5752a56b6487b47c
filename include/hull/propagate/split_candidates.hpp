// SPDX-License-Identifier: Apache-2.0
// Which neurons of a row look worth a split: BaBSR's estimate (Bunel et al. 2020, section 4.2) and its intercept part
// alone. The search bounds the children of the best few before it decides (kFSB, De Palma et al. 2021).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

#include <hull/core/config.hpp>
#include <hull/propagate/free.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

/// What the relaxation of free column `i` costs a row whose coefficient there is `x`, by two estimates: not above 0
/// where a split cannot help.
struct split_score final {
  float change, intercept;
};
[[nodiscard]] HULL_FN inline split_score score_of(free_columns const& f, std::size_t i, float x) {
  // the side that has no choice is the chord; the row pays for it where its coefficient asks for that side
  bool const chord_above = f.zero.upper_slope[i] == f.one.upper_slope[i];
  float const paid = (chord_above ? x < 0 : x > 0) ? mul_nearest(std::fabs(x), f.gap[i]) : 0;
  float const constant = mul_nearest(chord_above ? x : -x, f.bias[i]);
  float const less = mul_nearest(constant, f.ratio[i] - 1), more = mul_nearest(constant, f.ratio[i]);
  return {std::fabs((less < more ? less : more) - paid), paid};
}

/// The best parameters of a row by each of the two scores, best first.
struct split_candidates final {
  static constexpr std::size_t each = 3;

  std::array<index_t, 2 * each> parameter{};  // [score, rank]
  std::array<float, 2 * each> score{};
  std::array<std::size_t, 2> count{};

  /// Whether a parameter with this score would enter the list.
  [[nodiscard]] bool takes(std::size_t list, float value) const {
    return value > 0 && (count[list] < each || value > score[list * each + each - 1]);
  }

  /// Ties go to the parameter that was offered first.
  void offer(std::size_t list, index_t p, float value) {
    if (!takes(list, value)) return;
    std::size_t const base = list * each;
    std::size_t at = count[list];
    while (at > 0 && score[base + at - 1] < value) --at;
    count[list] = std::min(count[list] + 1, each);
    for (std::size_t i = count[list] - 1; i > at; --i) {
      parameter[base + i] = parameter[base + i - 1];
      score[base + i] = score[base + i - 1];
    }
    parameter[base + at] = p;
    score[base + at] = value;
  }

  /// Calls f(list, parameter, score) for all of them.
  template <class F>
  void visit(F&& f) const {
    for (std::size_t list = 0; list < 2; ++list) {
      for (std::size_t i = 0; i < count[list]; ++i) f(list, parameter[list * each + i], score[list * each + i]);
    }
  }

  /// Both lists in turns, without repetitions. Returns how many were written.
  [[nodiscard]] std::size_t merge(std::span<index_t> result) const {
    std::size_t written = 0;
    for (std::size_t rank = 0; rank < each; ++rank) {
      for (std::size_t list = 0; list < 2; ++list) {
        if (rank >= count[list]) continue;
        index_t const p = parameter[list * each + rank];
        auto const end = result.begin() + static_cast<std::ptrdiff_t>(written);
        if (written < result.size() && std::find(result.begin(), end, p) == end) result[written++] = p;
      }
    }
    return written;
  }
};

}  // namespace hull
