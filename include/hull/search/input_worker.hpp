// SPDX-License-Identifier: Apache-2.0
// Bounds one part of a round of boxes: CROWN over all of them at once, then points of those that stay open.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/known_heads.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/input_domains.hpp>
#include <hull/search/input_split.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// What bounding told about a domain.
struct input_outcome final {
  bool refuted = false;
  double bound = 0;            // of the constraint nearest to proof
  std::size_t constraint = 0;  // one that is refuted
  input_cut cut;               // where to split; not if refuted
  double value = 0;            // of the worst constraint at the best point tried, relative to its terms; at most 0: sat
  std::vector<double> point;   // its free coordinates
};

/// The coordinates of a disjunct's box that are not single points.
using free_coordinates = std::vector<std::uint32_t>;

/// One thread's machines. `M` bounds; `A` evaluates points with rounding `Nearest`. Where passes through the network
/// are collectives, all ranks must call bound() equally often, with any boxes.
template <Network Net, class M, class A>
class input_worker final {
 public:
  using heads = known_heads<Net>;

  input_worker(typename M::member_type const& member, verify_options const& options, deadline const& end,
               std::size_t row_bytes)
      : machine_(member), attacker_(member), bounds_(machine_, row_bytes), points_(attacker_, 0), end_(end) {
    bounds_.intersect_hidden(options.intersect_hidden);
    bounds_.stop_at(end);
    points_.stop_at(end);
  }
  input_worker(input_worker const&) = delete;  // the propagations borrow the machines
  input_worker& operator=(input_worker const&) = delete;
  ~input_worker() = default;

  /// Bounds domains [first, last) of `round`. known[i] are bounds of hidden neurons that hold for domain i (or null),
  /// keep[i] takes the new ones (or null). Sound: a domain is refuted only by a bound of one of its constraints.
  void bound(specification const& spec, std::span<free_coordinates const> free, input_domains const& round,
             row_range part, std::span<float const* const> known, std::span<float* const> keep,
             std::span<input_outcome> outcomes) {
    std::size_t const count = part.last - part.first;
    load(spec, free, round, part);
    bounds_.run(views_, hidden_bounds::crown, {}, known.subspan(part.first, count));
    bound_rows(spec, free, round, part, outcomes);
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      if constexpr (heads::plan.offset[K] != heads::nowhere) {
        for (std::size_t i = part.first; i < part.last; ++i) {
          if (keep[i] == nullptr || outcomes[i].refuted) continue;
          machine_.template keep<stage<Net, K>>(bounds_.state(), i - part.first, keep[i] + heads::plan.offset[K]);
        }
      }
    });
    try_points(spec, free, round, part, outcomes);
  }

  [[nodiscard]] std::size_t planned_bytes(std::size_t boxes) const {
    return bounds_.plan(boxes) + points_.plan(2 * boxes);
  }
  [[nodiscard]] std::size_t peak_bytes() { return machine_.memory().peak() + attacker_.memory().peak(); }

 private:
  /// Fills the boxes of the batch; coordinates that are single points come from the disjunct.
  void load(specification const& spec, std::span<free_coordinates const> free, input_domains const& round,
            row_range part) {
    std::size_t const count = part.last - part.first;
    boxes_.resize(std::max(boxes_.size(), count));
    views_.clear();
    for (std::size_t b = 0; b < count; ++b) {
      std::size_t const d = round[part.first + b].disjunct;
      auto const ranges = round.ranges(part.first + b);
      boxes_[b] = spec.disjuncts[d].box;
      for (std::size_t j = 0; j < free[d].size(); ++j) boxes_[b][free[d][j]] = ranges[j];
      views_.push_back(&boxes_[b]);
    }
  }

  /// Bounds of every constraint of every domain; of open domains the row nearest to proof says where to cut, and its
  /// minimising corner is the point to try.
  void bound_rows(specification const& spec, std::span<free_coordinates const> free, input_domains const& round,
                  row_range part, std::span<input_outcome> outcomes) {
    forms_.clear();
    for (std::size_t i = part.first; i < part.last; ++i) {
      outcomes[i] = {};
      outcomes[i].bound = -std::numeric_limits<double>::infinity();
      for (auto const& form : spec.disjuncts[round[i].disjunct].constraints) {
        forms_.push_back({static_cast<index_t>(i - part.first), &form});
      }
    }
    best_.assign(part.last - part.first, {});
    std::size_t done = 0;
    bounds_.backward_forms(forms_, [&](row_block const& rows, coefficient_views<Net> const& a) {
      auto const& input = bounds_.state().stage[0];
      for (std::size_t r = 0; r < rows.count; ++r) {
        std::size_t const i = part.first + rows.box[r];
        std::size_t const d = round[i].disjunct;
        double const lower = rows.bound[r];
        bool const valid = lower < std::numeric_limits<double>::infinity();  // as in propagation: NaN says nothing
        if (valid && refutes(lower, *forms_[done + r].form)) {
          outcomes[i].refuted = true;
          outcomes[i].constraint =
              static_cast<std::size_t>(forms_[done + r].form - spec.disjuncts[d].constraints.data());
        }
        if (!best_[rows.box[r]].empty() && !(valid && lower > outcomes[i].bound)) continue;
        if (valid) outcomes[i].bound = lower;
        auto& slopes = best_[rows.box[r]];
        slopes.assign(free[d].size(), 0.0f);
        for (std::size_t j = 0; j < free[d].size(); ++j) {
          index_t const slot = input.slot[free[d][j]];
          if (slot != stage_state::dead) slopes[j] = a[0][r * input.live_count + slot];
        }
      }
      done += rows.count;
    });
    for (std::size_t i = part.first; i < part.last; ++i) {
      auto& slopes = best_[i - part.first];
      slopes.resize(free[round[i].disjunct].size());  // a case without constraints has no row
      if (!outcomes[i].refuted) outcomes[i].cut = choose_cut(round.ranges(i).first(slopes.size()), slopes);
    }
  }

  /// Evaluates the centre and the minimising corner of each open domain in single precision.
  void try_points(specification const& spec, std::span<free_coordinates const> free, input_domains const& round,
                  row_range part, std::span<input_outcome> outcomes) {
    tried_.clear();
    for (std::size_t i = part.first; i < part.last; ++i) {
      if (!outcomes[i].refuted) tried_.push_back(i);
    }
    if (!attacker_.any(!tried_.empty(), end_)) return;
    corners_.resize(std::max(corners_.size(), 2 * tried_.size()));
    views_.clear();
    for (std::size_t p = 0; p < 2 * tried_.size(); ++p) {
      std::size_t const i = tried_[p / 2];
      auto const& chosen = free[round[i].disjunct];
      corners_[p] = boxes_[i - part.first];
      for (std::size_t j = 0; j < chosen.size(); ++j) {
        float const slope = best_[i - part.first][j];
        input_range& at = corners_[p][chosen[j]];
        double const middle = std::clamp(at.lower + 0.5 * (at.upper - at.lower), at.lower, at.upper);
        bool const corner = p % 2 == 1 && (slope > 0 || slope < 0);
        at.lower = at.upper = !corner ? middle : slope > 0 ? at.lower : at.upper;
      }
      views_.push_back(&corners_[p]);
    }
    if (tried_.empty()) views_.push_back(&boxes_.front());  // other ranks have points, and may need this one's pass
    points_.run_intervals(views_);
    for (std::size_t p = 0; p < 2 * tried_.size(); ++p) {
      input_outcome& outcome = outcomes[tried_[p / 2]];
      std::size_t const d = round[tried_[p / 2]].disjunct;
      double const value = largest_form(spec.disjuncts[d], p);
      if (p % 2 == 1 && !(value < outcome.value)) continue;
      outcome.value = value;
      outcome.point.clear();
      for (auto const coordinate : free[d]) outcome.point.push_back(corners_[p][coordinate].lower);
    }
  }

  /// The largest constraint at point p, relative to the sizes of its terms: at most 0 where all hold.
  [[nodiscard]] double largest_form(disjunct const& target, std::size_t p) const {
    auto const& input = points_.state().stage.front();
    auto const& output = points_.state().stage.back();
    double largest = -std::numeric_limits<double>::infinity();
    for (auto const& form : target.constraints) {
      double sum = form.constant, size = std::fabs(form.constant);
      auto const add = [&](double part) {
        sum += part;
        size += std::fabs(part);
      };
      for (term const& t : form.outputs) add(t.coefficient * output.centre[p * output.size + t.index]);
      for (term const& t : form.inputs) add(t.coefficient * input.centre[p * input.size + t.index]);
      if (std::isnan(sum)) return std::numeric_limits<double>::infinity();
      largest = std::max(largest, size > 0 ? sum / size : 0.0);
    }
    return largest;
  }

  M machine_;
  A attacker_;
  propagation<Net, M> bounds_;
  propagation<Net, A> points_;
  deadline end_;

  // kept from part to part, so that their memory is allocated once
  std::vector<std::vector<input_range>> boxes_, corners_;  // [boxes], [2 open boxes]
  std::vector<box_view> views_;
  std::vector<row_form> forms_;
  std::vector<std::vector<float>> best_;  // [boxes] slopes of the row nearest to proof, free coordinates only
  std::vector<std::size_t> tried_;
};

}  // namespace hull
