// SPDX-License-Identifier: Apache-2.0
// Bounds a round of boxes of input splitting, in parts: ranks divide the parts, and threads those of a rank.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/known_heads.hpp>
#include <hull/propagate/memory.hpp>
#include <hull/search/input_domains.hpp>
#include <hull/search/input_exchange.hpp>
#include <hull/search/input_worker.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// `M` is a Machine with M::workers() and M::side_by_side(); `A` is the same with `Nearest`. Ranks that divide neurons
/// bound all parts together.
///
/// A box's bound depends in its last bits on the boxes that it is bounded with, so parts depend neither on ranks nor on
/// threads, unless the byte budget is too small for parts of full size on every thread.
template <Network Net, class M, class A>
class input_bounder final {
 public:
  using member_type = typename M::member_type;

  /// Boxes have up to `coordinates` free ones. A collective.
  input_bounder(member_type const& member, verify_options const& options, deadline const& end, std::size_t coordinates)
      : member_(member), own_(member.separate()), exchange_(member, coordinates, known_heads<Net>::floats) {
    std::size_t const half = options.memory_budget / 2;  // the other one is for the work list
    most_boxes_ =
        member.least(std::clamp<std::size_t>(half / M::threads() / 6 / network_state<Net>::bytes(1), 1, part_boxes));
    std::size_t const workers = std::clamp<std::size_t>(half / least_bytes(), 1, M::workers(own_));
    for (std::size_t i = 0; i < workers; ++i) {
      workers_.push_back(
          std::make_unique<input_worker<Net, M, A>>(own_, options, end, std::min(half / workers / 2, row_bytes)));
    }
  }

  /// Fills outcomes() for all boxes of `round`. Bounds of hidden neurons go to the lists `taken` [boxes] of `known`;
  /// they are as good as undefined for boxes that are refuted or cannot be cut. Throws deadline_passed, on all ranks or
  /// none.
  void bound(specification const& spec, std::span<free_coordinates const> free, input_domains const& round,
             known_bounds& known, std::span<std::uint32_t const> taken) {
    std::size_t const count = round.size();
    outcomes_.resize(std::max(outcomes_.size(), count));
    known_views_.clear();
    keep_views_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      known_views_.push_back(known.at(round[i].known));
      keep_views_.push_back(known.at(taken[i]));
    }
    std::size_t const part =
        std::clamp<std::size_t>((count + 7) / 8, std::min<std::size_t>(8, most_boxes_), most_boxes_);
    std::size_t const parts = (count + part - 1) / part;
    auto const boxes = [&](row_range some) {
      return row_range{std::min(count, some.first * part), std::min(count, some.last * part)};
    };
    row_range const mine = member_.share(parts);
    bool late = false;
    try {
      // where passes are collectives, ranks make as many as the one with the most parts: they repeat the first box
      M::side_by_side(own_.concurrent() ? mine.size() : member_.most(parts), workers_.size(),
                      [&](std::size_t turn, std::size_t worker) {
                        std::size_t const p = mine.first + turn;
                        workers_[worker]->bound(spec, free, round, p < mine.last ? boxes({p, p + 1}) : row_range{0, 1},
                                                known_views_, keep_views_, outcomes_);
                      });
    } catch (deadline_passed const&) {
      if (member_.ranks() == 1) throw;
      late = true;  // the others wait for the outcomes
    }
    if (!late) bounded_ += boxes(mine).size();
    if (member_.ranks() == 1) return;
    shares_.clear();
    for (std::size_t r = 0; r < member_.ranks(); ++r) shares_.push_back(boxes(share_of(parts, r, member_.ranks())));
    exchange_.give_outcomes(shares_, late, round, free, outcomes_);
    exchange_.give_lists(shares_, [&](std::size_t i) {
      return outcomes_[i].refuted || !outcomes_[i].cut.possible ? nullptr : keep_views_[i];
    });
  }

  /// [boxes] of the last round, at least.
  [[nodiscard]] std::span<input_outcome> outcomes() { return outcomes_; }

  /// Most boxes of a part; the same on all ranks.
  [[nodiscard]] std::size_t most_boxes() const { return most_boxes_; }
  /// Boxes that this rank has bounded.
  [[nodiscard]] std::size_t bounded() const { return bounded_; }

  /// What one thread needs for one box.
  [[nodiscard]] static std::size_t least_bytes() {
    return memory_of<Net, M>::total({hidden_bounds::crown, 1, 0, true, 1, M::threads()}) +
           memory_of<Net, A>::total({hidden_bounds::interval, 2, 0, true, 1, A::threads()});
  }

  [[nodiscard]] std::size_t planned_bytes() const {
    return workers_.size() * workers_.front()->planned_bytes(most_boxes_);
  }
  [[nodiscard]] std::size_t peak_bytes() const {
    std::size_t peak = 0;
    for (auto const& one : workers_) peak += one->peak_bytes();
    return peak;
  }

 private:
  static constexpr std::size_t part_boxes = 64;  // bounded together by one thread; small enough for its cache
  // rows of a chunk: few enough for the cache, but enough to be worth the packing of a wide layer's weights
  static constexpr std::size_t row_bytes = std::max(
      std::size_t{1} << 20, 1024 * sizeof(float) * plan_coefficients<Net>(stage_count<Net> - 1, true, true).width);

  member_type member_;
  member_type own_;  // for the parts of this rank
  input_exchange<member_type> exchange_;
  std::size_t most_boxes_ = 1;
  std::size_t bounded_ = 0;
  std::vector<std::unique_ptr<input_worker<Net, M, A>>> workers_;

  // of the round, [domain]
  std::vector<input_outcome> outcomes_;
  std::vector<float const*> known_views_;
  std::vector<float*> keep_views_;
  std::vector<row_range> shares_;  // [rank]
};

}  // namespace hull
