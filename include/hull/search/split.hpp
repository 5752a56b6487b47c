// SPDX-License-Identifier: Apache-2.0
// Which neurons of a row look worth a split: BaBSR's estimate (Bunel et al. 2020, section 4.2) and its intercept part
// alone. The search bounds the children of the best few before it decides (kFSB, De Palma et al. 2021).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/propagate/climbing_chunk.hpp>
#include <hull/propagate/parameter_numbers.hpp>

namespace hull {

/// The best parameters by each of two scores, by the numbers that all ranks share.
template <std::size_t Each>
struct split_candidates final {
  std::array<index_t, 2 * Each> parameter{};
  std::array<float, 2 * Each> score{};
  std::array<std::size_t, 2> count{};

  /// Ties go to the earlier parameter.
  void offer(std::size_t list, index_t p, float value) {
    if (!(value > 0)) return;
    std::size_t const base = list * Each;
    std::size_t at = count[list];
    while (at > 0 && score[base + at - 1] < value) --at;
    if (at == Each) return;
    count[list] = std::min(count[list] + 1, Each);
    for (std::size_t i = count[list] - 1; i > at; --i) {
      parameter[base + i] = parameter[base + i - 1];
      score[base + i] = score[base + i - 1];
    }
    parameter[base + at] = p;
    score[base + at] = value;
  }

  /// Both lists without repetitions. Returns how many were written.
  [[nodiscard]] std::size_t merge(std::span<index_t> result) const {
    std::size_t written = 0;
    for (std::size_t rank = 0; rank < Each; ++rank) {
      for (std::size_t list = 0; list < 2; ++list) {
        if (rank >= count[list]) continue;
        index_t const p = parameter[list * Each + rank];
        if (written == result.size() || std::find(result.begin(), result.begin() + static_cast<std::ptrdiff_t>(written),
                                                  p) != result.begin() + static_cast<std::ptrdiff_t>(written)) {
          continue;
        }
        result[written++] = p;
      }
    }
    return written;
  }
};

/// Scores every free neuron of a row that is not split yet and whose stage `ours(stage)` takes, from the row's
/// coefficients. None: no relaxation costs this row anything.
template <std::size_t Each, Network Net, class Ours>
[[nodiscard]] split_candidates<Each> find_candidates(row_view<Net> const& view, std::span<split const> splits,
                                                     parameter_numbers<Net> const& numbers, Ours&& ours) {
  std::vector<index_t> taken;
  for (split const& one : splits) taken.push_back(one.parameter);
  std::sort(taken.begin(), taken.end());
  split_candidates<Each> best;
  for (std::size_t k = 1; k < stage_count<Net>; ++k) {
    float const* const a = ours(k) ? view.coefficients(k) : nullptr;
    free_columns const& f = view.free->stage[k];
    for (std::size_t i = 0; a != nullptr && i < f.count; ++i) {
      float const x = a[f.column[i]];
      if (x == 0) continue;
      index_t const p = numbers.number(k, f.offset + i);
      if (std::binary_search(taken.begin(), taken.end(), p)) continue;
      // the side that has no choice is the chord; the row pays for it where its coefficient asks for that side
      bool const chord_above = f.zero.upper_slope[i] == f.one.upper_slope[i];
      float const paid = (chord_above ? x < 0 : x > 0) ? std::fabs(x) * f.gap[i] : 0;
      float const constant = (chord_above ? x : -x) * f.bias[i];
      float const change = std::min(constant * (f.ratio[i] - 1), constant * f.ratio[i]);
      best.offer(0, p, std::fabs(change - paid));
      best.offer(1, p, paid);
    }
  }
  return best;
}

}  // namespace hull
