// SPDX-License-Identifier: Apache-2.0
// What ranks tell each other about a round of boxes of which each has bounded a share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/propagate/share.hpp>
#include <hull/search/input_domains.hpp>
#include <hull/search/input_worker.hpp>

namespace hull {

/// Copies of numbers, not sums: all ranks go on with the same bits. `Member`: one of ranks that divide boxes. In both
/// exchanges shares[r] are the boxes that rank r has bounded; all ranks call them together.
template <class Member>
class input_exchange final {
 public:
  /// Boxes have up to `coordinates` free ones, and lists of `floats` bounds of hidden neurons.
  input_exchange(Member const& member, std::size_t coordinates, std::size_t floats)
      : member_(member), numbers_each_(fixed + coordinates), floats_(floats) {}

  /// All ranks get the outcomes of all boxes. If one was `late` and has not bounded its share, all throw
  /// deadline_passed. Cost: 7 numbers and the free coordinates for each box.
  void give_outcomes(std::span<row_range const> shares, bool late, input_domains const& round,
                     std::span<free_coordinates const> free, std::span<input_outcome> outcomes) {
    std::size_t const each = 1 + largest(shares) * numbers_each_;
    numbers_.assign(shares.size() * each, 0.0);
    double* const own = numbers_.data() + member_.rank() * each;
    own[0] = late ? 1 : 0;
    row_range const mine = shares[member_.rank()];
    for (std::size_t i = mine.first; i < mine.last && !late; ++i) {
      pack(outcomes[i], own + 1 + (i - mine.first) * numbers_each_);
    }
    member_.gather(numbers_.data(), numbers_.size());
    for (std::size_t r = 0; r < shares.size(); ++r) {
      if (numbers_[r * each] != 0) throw deadline_passed();
    }
    for (std::size_t r = 0; r < shares.size(); ++r) {
      if (r == member_.rank()) continue;
      double const* from = numbers_.data() + r * each + 1;
      for (std::size_t i = shares[r].first; i < shares[r].last; ++i, from += numbers_each_) {
        unpack(from, free[round[i].disjunct].size(), outcomes[i]);
      }
    }
  }

  /// All ranks get the lists of bounds that other ranks have filled; list(i) is that of box i, or null. Which are null
  /// must be the same on all ranks.
  template <class List>
  void give_lists(std::span<row_range const> shares, List&& list) {
    std::size_t const ranks = shares.size();
    std::vector<std::vector<float*>> lists(ranks);
    std::size_t most = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      for (std::size_t i = shares[r].first; i < shares[r].last; ++i) {
        if (float* const one = list(i); one != nullptr) lists[r].push_back(one);
      }
      most = std::max(most, lists[r].size());
    }
    std::size_t const group = std::clamp<std::size_t>(piece_floats / (ranks * std::max<std::size_t>(1, floats_)), 1,
                                                      std::max<std::size_t>(1, most));
    lists_.resize(std::max(lists_.size(), ranks * group * floats_));
    for (std::size_t done = 0; done < most; done += group) {
      std::size_t const now = std::min(group, most - done), each = now * floats_;
      auto const some = [&](std::size_t r, auto&& use) {
        for (std::size_t i = done; i < std::min(done + now, lists[r].size()); ++i) {
          use(lists[r][i], lists_.data() + r * each + (i - done) * floats_);
        }
      };
      some(member_.rank(), [&](float const* one, float* sent) { std::copy_n(one, floats_, sent); });
      member_.all_gather(lists_.data() + member_.rank() * each, lists_.data(), each);
      for (std::size_t r = 0; r < ranks; ++r) {
        if (r != member_.rank()) some(r, [&](float* one, float const* sent) { std::copy_n(sent, floats_, one); });
      }
    }
  }

 private:
  static constexpr std::size_t fixed = 7;                            // numbers of an outcome beside its point
  static constexpr std::size_t piece_floats = std::size_t{1} << 20;  // of all ranks, on their way at a time

  [[nodiscard]] static std::size_t largest(std::span<row_range const> shares) {
    std::size_t most = 0;
    for (row_range const one : shares) most = std::max(most, one.size());
    return most;
  }

  static void pack(input_outcome const& one, double* to) {
    *to++ = one.refuted ? 1 : 0;
    *to++ = one.bound;
    *to++ = static_cast<double>(one.constraint);
    *to++ = one.cut.possible ? 1 : 0;
    *to++ = static_cast<double>(one.cut.coordinate);
    *to++ = one.cut.at;
    *to++ = one.value;
    std::copy(one.point.begin(), one.point.end(), to);
  }

  static void unpack(double const* from, std::size_t coordinates, input_outcome& one) {
    one.refuted = *from++ != 0;
    one.bound = *from++;
    one.constraint = static_cast<std::size_t>(*from++);
    one.cut.possible = *from++ != 0;
    one.cut.coordinate = static_cast<std::size_t>(*from++);
    one.cut.at = *from++;
    one.value = *from++;
    one.point.assign(from, from + (one.refuted ? 0 : coordinates));
  }

  Member member_;
  std::size_t numbers_each_;
  std::size_t floats_;
  std::vector<double> numbers_;  // [rank] a flag, then outcomes
  std::vector<float> lists_;     // [rank] lists
};

}  // namespace hull
