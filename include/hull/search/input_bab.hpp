// SPDX-License-Identifier: Apache-2.0
// Branch and bound over the inputs, for networks with few of them (Bunel et al. 2018, section 3; Wang et al. 2018): a
// box that CROWN does not settle is cut in two, and both halves go back to the work list.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/net/parameters.hpp>
#include <hull/search/attack.hpp>
#include <hull/search/certificate.hpp>
#include <hull/search/input_bounder.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/stopwatch.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// One search. `M` is a Machine with M::workers() and M::side_by_side(); `A` is the same with `Nearest`. Ranks divide
/// the boxes of a round; everything else each of them does, with the same work list and the same decisions.
///
/// Sound under `Outward`: the two halves of a box share one plane, so a union of refuted boxes covers the disjunct's
/// box, and `unsat` is answered only when every domain was refuted. Deterministic: rounds and their parts depend on the
/// seed and the specification alone, neither on the number of threads or ranks nor on time.
template <Network Net, class M, class A>
class input_search final {
 public:
  static constexpr std::size_t most_coordinates = 20;

  /// Whether every one of these disjuncts has few enough ranges that are not single points.
  [[nodiscard]] static bool suits(specification const& spec, std::span<std::size_t const> disjuncts) {
    return std::all_of(disjuncts.begin(), disjuncts.end(),
                       [&](std::size_t d) { return free_of(spec.disjuncts[d]).size() <= most_coordinates; });
  }

  /// Borrows all of them. `open` are the disjuncts to settle. With several ranks, `end` is one they agree on.
  input_search(typename M::member_type const& member, problem const& asked, specification const& spec,
               std::span<std::size_t const> open, verify_options const& options, confirm_function const& confirm,
               deadline const& end)
      : asked_(&asked),
        spec_(&spec),
        open_(open),
        options_(&options),
        confirm_(&confirm),
        end_(end),
        free_(spec.disjuncts.size()),
        least_(spec.disjuncts.size(), std::numeric_limits<double>::infinity()),
        attack_(member, 0),
        width_(widest()),
        work_(width_),
        round_(width_),
        known_(known_heads<Net>::floats, options.memory_budget / 4),
        bounder_(member, options, end, width_) {}

  /// `unsat`, `sat` (then the report has the point) or `unknown`, where a box could not be cut any further (a property
  /// that holds with equality); the search then goes on for a while for the sake of a counterexample. Nothing if there
  /// are so many coordinates that another kind of search should have its turn.
  /// Throws deadline_passed. The report's margins, domains and bytes are brought up to date in any case.
  [[nodiscard]] std::optional<verdict> run(verify_report& report) {
    std::size_t const most = width_ <= few_coordinates ? ~std::size_t{0} : report.domains + trial;
    report.planned_bytes = std::max(report.planned_bytes, bounder_.planned_bytes());
    try {
      while (fill_round() > 0) {
        end_.check();
        if (stuck_ > 0 && report.domains > give_up_) return finish(report, verdict::unknown);
        if (report.domains > most) {
          finish(report, verdict::unknown);
          return {};
        }
        bound_round();
        report.domains += round_.size();
        if (merge_round(report) || attack_some(report)) return finish(report, verdict::sat);
        tell_progress(report);
      }
    } catch (deadline_passed const&) {
      finish(report, verdict::timeout);
      throw;
    }
    return finish(report, stuck_ == 0 ? verdict::unsat : verdict::unknown);
  }

  /// Boxes that this rank has bounded.
  [[nodiscard]] std::size_t bounded() const { return bounder_.bounded(); }

 private:
  static constexpr std::size_t round_boxes = 1024;   // between two looks at the work list
  static constexpr std::size_t few_coordinates = 6;  // up to here halves of boxes always beat halves of neurons' ranges
  static constexpr std::size_t trial = 20000;        // boxes that a search over more coordinates may take
  static constexpr std::size_t patience = 20000;     // boxes for a counterexample when `unsat` is out of reach
  static constexpr std::size_t attack_period = 1000;  // boxes
  static constexpr std::size_t attack_points = 16;
  static constexpr std::size_t attack_steps = 18;
  static constexpr double promising = 1e-6;  // a point in single precision this near is confirmed in double
  static constexpr double certain = 1e-3;    // beyond this, single and double precision should agree

  [[nodiscard]] static free_coordinates free_of(disjunct const& one) {
    free_coordinates coordinates;
    for (std::size_t i = 0; i < one.box.size(); ++i) {
      if (one.box[i].lower < one.box[i].upper) coordinates.push_back(static_cast<std::uint32_t>(i));
    }
    return coordinates;
  }

  [[nodiscard]] std::size_t widest() {
    std::size_t most = 1;
    for (std::size_t const d : open_) {
      free_[d] = free_of(spec_->disjuncts[d]);
      most = std::max(most, free_[d].size());
    }
    return most;
  }

  /// Takes boxes from the work list, and disjuncts that were not begun where it is short. When memory is, rounds get
  /// small: then the list grows by a few boxes for each level of the tree.
  std::size_t fill_round() {
    bool const scarce = work_.bytes() > options_->memory_budget / 8;
    std::size_t const most = scarce ? 16 : std::min(round_boxes, 16 * bounder_.most_boxes());
    round_.clear();
    work_.pop_to(round_, std::min(most, work_.size()));
    std::vector<input_range> ranges(width_);
    for (; next_ < open_.size() && round_.size() < most; ++next_) {
      auto const d = open_[next_];
      for (std::size_t j = 0; j < free_[d].size(); ++j) ranges[j] = spec_->disjuncts[d].box[free_[d][j]];
      input_domain one;
      one.disjunct = static_cast<std::uint32_t>(d);
      one.bound = -std::numeric_limits<double>::infinity();
      round_.push(one, ranges);
    }
    merged_ = 0;
    return round_.size();
  }

  void bound_round() {
    taken_.clear();
    for (std::size_t i = 0; i < round_.size(); ++i) taken_.push_back(known_.take());
    bounder_.bound(*spec_, free_, round_, known_, taken_);
    outcomes_ = bounder_.outcomes();
  }

  /// Confirms promising points, drops what is refuted and cuts the rest. True if there is a counterexample.
  bool merge_round(verify_report& report) {
    order_.clear();
    for (std::size_t i = 0; i < round_.size(); ++i) {
      if (!outcomes_[i].refuted) order_.push_back(i);
    }
    // the nearest to a counterexample last: those are the next round
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return outcomes_[a].value > outcomes_[b].value; });
    if (find_counterexample(report)) return true;
    for (std::size_t i = 0; i < round_.size(); ++i) {
      known_.drop(round_[i].known);
      if (!outcomes_[i].refuted) continue;
      if (options_->proof != nullptr) tree_of(i).refute(round_[i].leaf, outcomes_[i].constraint);
      close(i);
      known_.drop(taken_[i]);
    }
    for (std::size_t const i : order_) {
      input_cut const& cut = outcomes_[i].cut;
      if (!cut.possible || spec_->disjuncts[round_[i].disjunct].constraints.empty()) {
        if (stuck_++ == 0) give_up_ = report.domains + patience;
        close(i);
        known_.drop(taken_[i]);
        continue;
      }
      auto const ranges = round_.ranges(i);
      input_domain half{round_[i].disjunct, taken_[i], std::max(round_[i].bound, outcomes_[i].bound)};
      input_range const whole = ranges[cut.coordinate];
      if (options_->proof != nullptr) {
        half.leaf = tree_of(i).split_input(round_[i].leaf, free_[half.disjunct][cut.coordinate], cut.at);
      }
      ranges[cut.coordinate] = {whole.lower, cut.at};
      work_.push(half, ranges);
      ranges[cut.coordinate] = {cut.at, whole.upper};
      ++half.leaf;
      work_.push(half, ranges);
      known_.share(taken_[i]);
    }
    merged_ = round_.size();
    return false;
  }

  /// Now and then a short attack: from the most promising points of the round, and from domains all over the work list,
  /// because the search itself goes deep in one place.
  bool attack_some(verify_report& report) {
    if (report.domains < attacked_ + attack_period || work_.size() == 0) return false;
    attacked_ = report.domains;
    std::vector<attack_point> points;
    auto const start = [&](std::size_t d, auto&& coordinate) {
      points.push_back({d, spec_->disjuncts[d].box});
      for (input_range& range : points.back().at) range.upper = range.lower;
      for (std::size_t j = 0; j < free_[d].size(); ++j) {
        double const x = coordinate(j);
        points.back().at[free_[d][j]] = {x, x};
      }
    };
    for (auto i = order_.rbegin(); i != order_.rend() && points.size() < attack_points / 2; ++i) {
      if (outcomes_[*i].cut.possible) start(round_[*i].disjunct, [&](std::size_t j) { return outcomes_[*i].point[j]; });
    }
    for (std::size_t k = 0; k < attack_points / 2; ++k) {
      std::size_t const i = work_.size() * k / (attack_points / 2);
      auto const ranges = work_.ranges(i);
      start(work_[i].disjunct, [&](std::size_t j) {
        return std::clamp(ranges[j].lower + 0.5 * (ranges[j].upper - ranges[j].lower), ranges[j].lower,
                          ranges[j].upper);
      });
    }
    auto found = attack_.search_from(*spec_, std::move(points), attack_steps, *confirm_, end_);
    if (found.empty()) return false;
    report.counterexample = std::move(found);
    return true;
  }

  bool find_counterexample(verify_report& report) {
    std::size_t tries = 0;
    for (auto i = order_.rbegin(); i != order_.rend() && outcomes_[*i].value <= promising && tries < 8; ++i, ++tries) {
      std::size_t const d = round_[*i].disjunct;
      std::vector<double> inputs;
      for (auto const& range : spec_->disjuncts[d].box) inputs.push_back(range.lower);
      for (std::size_t j = 0; j < free_[d].size(); ++j) inputs[free_[d][j]] = outcomes_[*i].point[j];
      if (!(*confirm_)(inputs)) {
        // what bounds cannot refute and `confirm` does not accept stays open for ever
        if (outcomes_[*i].value < -certain) outcomes_[*i].cut.possible = false;
        continue;
      }
      report.counterexample = std::move(inputs);
      return true;
    }
    return false;
  }

  void tell_progress(verify_report const& report) {
    using clock = std::chrono::steady_clock;
    if (!options_->progress || clock::now() - told_ < std::chrono::milliseconds(500)) return;
    told_ = clock::now();
    search_progress now;
    now.seconds = std::chrono::duration<double>(told_ - start_).count();
    now.domains = report.domains;
    now.open = work_.size() + open_.size() - next_;
    now.margin = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < work_.size(); ++i) now.margin = std::min(now.margin, work_[i].bound);
    now.bytes = work_.bytes() + known_.bytes();
    options_->progress(now);
  }

  [[nodiscard]] proof_tree& tree_of(std::size_t i) { return options_->proof->disjuncts[round_[i].disjunct].tree; }

  /// A leaf of the tree.
  void close(std::size_t i) {
    double const bound = std::max(round_[i].bound, outcomes_[i].bound);
    least_[round_[i].disjunct] = std::min(least_[round_[i].disjunct], bound);
  }

  /// The smallest bound over all leaves is a margin of a disjunct with one constraint.
  verdict finish(verify_report& report, verdict answer) {
    for (std::size_t i = merged_; i < round_.size(); ++i)
      least_[round_[i].disjunct] = std::min(least_[round_[i].disjunct], round_[i].bound);
    for (std::size_t i = 0; i < work_.size(); ++i)
      least_[work_[i].disjunct] = std::min(least_[work_[i].disjunct], work_[i].bound);
    for (std::size_t const d : open_.first(next_)) {
      std::size_t const row = asked_->first_row[d];
      if (asked_->first_row[d + 1] - row == 1) report.margins[row] = std::max(report.margins[row], least_[d]);
    }
    report.peak_bytes = std::max(report.peak_bytes, bounder_.peak_bytes());
    return answer;
  }

  problem const* asked_;
  specification const* spec_;
  std::span<std::size_t const> open_;
  verify_options const* options_;
  confirm_function const* confirm_;
  deadline end_;

  std::vector<free_coordinates> free_;  // [disjunct]
  std::vector<double> least_;           // [disjunct] smallest bound of a leaf
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point told_ = start_;
  attack<Net, A> attack_;
  std::size_t attacked_ = 0;  // number of domains at the last attack
  std::size_t width_;
  std::size_t next_ = 0;     // disjuncts of `open_` that were begun
  std::size_t stuck_ = 0;    // boxes that could not be cut
  std::size_t give_up_ = 0;  // number of domains after which a search with such boxes ends
  std::size_t merged_ = 0;

  input_domains work_;
  input_domains round_;
  known_bounds known_;
  input_bounder<Net, M, A> bounder_;

  // of the round, [domain]
  std::span<input_outcome> outcomes_;
  std::vector<std::uint32_t> taken_;
  std::vector<std::size_t> order_;
};

/// Settles the open disjuncts by input splitting if they have few enough free inputs: then the report has the answer
/// and the result is true. False: it was not tried, or without success. Throws deadline_passed.
template <Network Net, class M, class A>
[[nodiscard]] bool search_inputs(typename M::member_type const& member, problem const& asked, specification const& spec,
                                 std::span<std::size_t const> open, verify_options const& options,
                                 confirm_function const& confirm, deadline const& end, verify_report& report) {
  using search = input_search<Net, M, A>;
  if (open.empty() || !search::suits(spec, open)) return false;
  detail::stopwatch const watch(report.search_seconds);
  auto const answer = search(member, asked, spec, open, options, confirm, end).run(report);
  if (answer) report.answer = *answer;
  if (!answer && options.proof != nullptr) {
    for (std::size_t const d : open) options.proof->disjuncts[d].tree = {};  // another search grows its own
  }
  return answer.has_value();
}

}  // namespace hull
