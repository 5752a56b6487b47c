// SPDX-License-Identifier: Apache-2.0
// Bounds domains of branch and bound: children of a round, leaves, and kFSB's look-ahead.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <hull/propagate/propagation.hpp>
#include <hull/search/attack.hpp>
#include <hull/search/branch_recorder.hpp>
#include <hull/search/candidates.hpp>
#include <hull/search/frontier.hpp>
#include <hull/search/multipliers.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/split_trials.hpp>
#include <hull/search/stopwatch.hpp>

namespace hull {

struct domain_request final {
  index_t from;  // slot that gives target, bounds and parameters to start with
  index_t node;  // splits of the domain
  index_t more;  // how many that slot does not have
};

struct bounded_domain final {
  bool refuted = false;
  bool here = true;                      // whether this rank has bounded it: only then alpha and beta are known
  std::size_t critical = 0;              // the track nearest to a proof
  std::vector<double> bound;             // [track]
  std::vector<packed_alpha> kept_alpha;  // [track, width] unless it is refuted
  std::vector<float> alpha;              // [track, width] if it is refuted and a proof is wanted
  std::vector<float> beta;               // [track, splits]
  std::vector<split> splits;
  candidate_list candidate = no_candidates();  // of the critical track
};

/// Works on the state that `all` has for the root. Borrows everything.
template <Network Net, class M>
class branch_bounder final {
 public:
  branch_bounder(M& machine, propagation<Net, M>& all, problem const& asked, branch_recorder<Net>& proof)
      : machine_(&machine),
        climber_(&all.climber()),
        state_(&all.state()),
        asked_(&asked),
        proof_(&proof),
        finder_(machine, all.climber()) {}

  [[nodiscard]] candidate_finder<Net, M> const& finder() const { return finder_; }

  /// Brings what is kept of these domains to all ranks.
  void bring(frontier& queue, std::span<index_t const> slots) const {
    if (machine_->ranks() == 1) return;
    auto numbers = queue.store().kept(slots);
    machine_->add_ranks(numbers.data(), numbers.size());
    queue.store().lend(slots, numbers);
  }

  /// Begins with the targets that are open at the root; `rows` [target][track] are numbers of rows of the problem.
  void begin(box_view box, std::vector<std::vector<std::size_t>> rows) {
    box_ = box;
    rows_ = std::move(rows);
    proved_.assign(rows_.size(), std::numeric_limits<double>::infinity());
    std::vector<float> alpha(climber_->width());
    climber_->start(alpha.data());
    root_start_ = domain_store::packed(alpha);
    input_.read(*machine_, state_->stage[0]);
  }

  [[nodiscard]] std::vector<std::vector<std::size_t>> const& rows() const { return rows_; }
  /// Least bound of the domains of a target that were closed.
  [[nodiscard]] double proved(std::size_t target) const { return proved_[target]; }

  /// A row may end as soon as its constraint is refuted.
  [[nodiscard]] static double goal(linear_constraint const& form) {
    return form.strict ? -std::numeric_limits<double>::denorm_min() : 0.0;
  }

  /// Optimises all tracks of the domains, which ranks divide; `use(number, bounded_domain&)` sees each. Minimisers of
  /// up to `corners` rows that stay open are kept for an attack.
  template <class Use>
  void bound(frontier& queue, std::span<domain_request const> requests, ascent const& how, std::size_t corners,
             Use&& use) {
    if (requests.empty()) return;
    load(queue, requests, work_);
    climb(queue, requests, how, corners, true, work_);
    for (std::size_t i = 0; i < requests.size(); ++i) use(i, work_.domains[i]);
  }

  /// The same for one domain in which no split seems to be left that matters: linear programs propose its multipliers,
  /// if `budget` bytes are enough for them. What they leave open comes back with the neurons that its splits still
  /// depend on as candidates; without any, the domain has a solution or rounding hides that it has none. The programs'
  /// minimisers are kept for an attack.
  [[nodiscard]] bounded_domain settle(frontier& queue, domain_request const& request, ascent const& how,
                                      std::size_t budget) {
    batch work;
    load(queue, {&request, 1}, work);
    auto const& splits = work.domains[0].splits;
    candidate_list more = no_candidates();
    auto const splits_left = [&](row_view<Net, M> const& view) {
      if (more[0] == domain_store::none) finder_.note_any(view, splits, more);
    };
    if (detail::stopwatch const watch(seconds_); domain_program::bytes(input_.reach.size(), splits.size()) <= budget) {
      domain_program const program(*climber_, work.tasks.front(), input_.reach, splits_left);
      more = finder_.join(more);
      for (std::size_t t = 0; t < work.tasks.size(); ++t) {
        auto const best = program.propose(*climber_, work.tasks[t]);
        if (!best.empty()) corners_.push_back(point(rows_[queue.store().target[request.from]][t], best));
      }
    }
    climb(queue, {&request, 1}, how, 0, false, work);
    auto& one = work.domains[0];
    if (!one.refuted && one.candidate[0] == domain_store::none) one.candidate = more;
    return std::move(one);
  }

  /// kFSB: bounds both children of every candidate on the critical row, without optimising, and takes the candidate
  /// whose worse child is best. Domains without candidates are leaves. Ranks divide the children.
  void choose(frontier& queue, std::span<index_t const> taken, std::vector<index_t>& leaves,
              std::vector<index_t>& parents, std::vector<index_t>& parameters) {
    auto const& store = queue.store();
    trials_.list(store, taken, leaves);
    auto const tasks = trials_.rows(*machine_, queue, [&](index_t slot, std::size_t track) {
      auto const* form = form_of(rows_[store.target[slot]][track]);
      return form_task{.form = form, .goal = goal(*form), .start = store.start(slot, track, root_start_.data())};
    });
    row_range const mine = machine_->share(tasks.size());
    climb_some(tasks, mine, ascent{.steps = 0}, [](auto const&, std::size_t) {});
    std::vector<double> bounds(tasks.size(), 0.0);
    for (std::size_t i = mine.first; i < mine.last; ++i) bounds[i] = tasks[i].bound;
    machine_->add_ranks(bounds.data(), bounds.size());
    trials_.choose(store, bounds, parents, parameters);
  }

  /// Seconds in which rows were bounded.
  [[nodiscard]] double seconds() const { return seconds_; }

  /// The minimisers kept so far; forgets them.
  [[nodiscard]] std::vector<attack_point> take_corners() { return std::exchange(corners_, {}); }

 private:
  struct batch {
    std::vector<bounded_domain> domains;         // [request], and more that had their use before
    std::vector<form_task> tasks;                // a row each
    std::vector<std::array<std::size_t, 2>> of;  // request and track of each task
  };

  [[nodiscard]] linear_constraint const* form_of(std::size_t row) const { return asked_->rows[row].form; }

  /// A task for every track of every request, warm from where its parent ended.
  void load(frontier& queue, std::span<domain_request const> requests, batch& work) const {
    auto& store = queue.store();
    std::size_t const width = store.width(), tracks = store.tracks();
    std::vector<std::size_t> first(requests.size());  // task
    work.of.clear();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      first[i] = work.of.size();
      for (std::size_t t = 0; t < rows_[store.target[requests[i].from]].size(); ++t) work.of.push_back({i, t});
    }
    work.domains.resize(std::max(work.domains.size(), requests.size()));
    work.tasks.assign(work.of.size(), {});
    machine_->for_each(requests.size(), tracks * width, [&](std::size_t i) {
      auto& one = work.domains[i];
      index_t const from = requests[i].from;
      auto const& rows = rows_[store.target[from]];
      std::size_t const before = store.depth[from], splits = before + requests[i].more;
      one.refuted = false;
      one.critical = 0;
      one.candidate = no_candidates();
      one.bound.assign(tracks, -std::numeric_limits<double>::infinity());
      one.kept_alpha.assign(tracks * width, 0);
      one.alpha.resize(proof_->wanted() ? tracks * width : 0);
      one.beta.assign(tracks * splits, unset_beta);
      one.splits.resize(splits);
      queue.tree().path(requests[i].node, one.splits);
      for (std::size_t t = 0; t < rows.size(); ++t) {
        float* const beta = one.beta.data() + t * splits;
        for (std::size_t q = 0; q < before; ++q) beta[q] = store.beta(from, t, q);
        auto const* form = form_of(rows[t]);
        // what holds in the parent holds here
        work.tasks[first[i] + t] = {.form = form,
                                    .splits = one.splits,
                                    .alpha = one.alpha.empty() ? nullptr : one.alpha.data() + t * width,
                                    .beta = beta,
                                    .goal = goal(*form),
                                    .bound = store.bound[from * tracks + t],
                                    .start = store.start(from, t, root_start_.data()),
                                    .kept = one.kept_alpha.data() + t * width};
      }
    });
  }

  /// Climbs the tasks `mine`. `ended(rows, first)`: rows.number(i) counts from task `first`.
  template <class Ended>
  void climb_some(std::span<form_task> tasks, row_range mine, ascent const& how, Ended&& ended) {
    detail::stopwatch const watch(seconds_);
    climber_->climb(tasks.subspan(mine.first, mine.size()), how,
                    [&](ended_rows<Net, M> const& rows) { ended(rows, mine.first); });
  }

  /// All ranks get what each has found for its share: bounds and candidates of tasks, and points to attack, of which a
  /// rank has `most` at the most.
  void exchange(batch& work, row_range mine, std::vector<candidate_list>& found, std::vector<attack_point>& points,
                std::size_t most) {
    constexpr std::size_t each = 1 + std::tuple_size_v<candidate_list>;
    std::size_t const inputs = box_->size(), one = 1 + inputs, ranks = machine_->ranks();
    std::vector<double> numbers(each * work.tasks.size() + ranks * most * one, 0.0);
    double* const shared = numbers.data() + each * work.tasks.size();
    for (std::size_t i = mine.first; i < mine.last; ++i) {
      numbers[each * i] = work.tasks[i].bound;
      std::copy(found[i].begin(), found[i].end(), numbers.begin() + static_cast<std::ptrdiff_t>(each * i + 1));
    }
    for (std::size_t i = 0; i < points.size(); ++i) {
      double* const to = shared + (machine_->rank() * most + i) * one;
      to[0] = static_cast<double>(points[i].disjunct + 1);
      for (std::size_t x = 0; x < inputs; ++x) to[1 + x] = points[i].at[x].lower;
    }
    machine_->add_ranks(numbers.data(), numbers.size());
    for (std::size_t i = 0; i < work.tasks.size(); ++i) {
      work.tasks[i].bound = numbers[each * i];
      for (std::size_t c = 0; c + 1 < each; ++c) found[i][c] = static_cast<index_t>(numbers[each * i + 1 + c]);
    }
    points.clear();
    for (std::size_t i = 0; i < ranks * most; ++i) {
      double const* const from = shared + i * one;
      if (from[0] == 0) continue;
      auto& point = points.emplace_back(attack_point{static_cast<std::size_t>(from[0]) - 1, *box_});
      for (std::size_t x = 0; x < inputs; ++x) point.at[x].lower = point.at[x].upper = from[1 + x];
    }
  }

  /// `divided`: each rank climbs a share of the requests, and all get the results; else every rank climbs all.
  void climb(frontier& queue, std::span<domain_request const> requests, ascent const& how, std::size_t corners,
             bool divided, batch& work) {
    auto& store = queue.store();
    auto& tasks = work.tasks;
    divided = divided && machine_->ranks() > 1;
    row_range const mine = divided ? machine_->share(requests.size()) : row_range{0, requests.size()};
    auto const task_of = [&](std::size_t request) {  // the first one
      auto const at = std::find_if(work.of.begin(), work.of.end(), [&](auto const& one) { return one[0] >= request; });
      return static_cast<std::size_t>(at - work.of.begin());
    };
    row_range const own{task_of(mine.first), task_of(mine.last)};
    std::size_t const wanted = corners - std::min(corners, corners_.size());
    std::size_t const room = divided ? machine_->most(wanted) : wanted;
    std::vector<attack_point> points;
    std::vector<split_candidates> noted(tasks.size());
    climb_some(tasks, own, how, [&](ended_rows<Net, M> const& rows, std::size_t first) {
      std::vector<std::size_t> open;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        auto const& task = tasks[first + rows.number(i)];
        if (!refutes(task.bound, *task.form)) open.push_back(i);
      }
      auto const scored = finder_.note(rows, open);
      for (std::size_t i = 0; i < open.size(); ++i) {
        std::size_t const number = first + rows.number(open[i]);
        noted[number] = scored[i];
        auto const [request, track] = work.of[number];
        if (points.size() < room)
          points.push_back(corner(rows[open[i]], rows_[store.target[requests[request].from]][track]));
      }
    });
    auto found = finder_.agree(noted);
    if (divided) exchange(work, own, found, points, room);
    std::move(points.begin(), points.end(), std::back_inserter(corners_));
    for (std::size_t i = 0; i < requests.size(); ++i) {
      // where all ranks have climbed, one of them keeps where the rows of the domain shall start
      work.domains[i].here =
          divided ? i >= mine.first && i < mine.last : requests[i].node % machine_->ranks() == machine_->rank();
    }
    for (std::size_t number = 0; number < tasks.size(); ++number) {
      auto const [i, track] = work.of[number];
      auto& one = work.domains[i];
      std::size_t const target = store.target[requests[i].from], row = rows_[target][track];
      one.bound[track] = tasks[number].bound;
      if (refutes(tasks[number].bound, *tasks[number].form)) {
        one.refuted = true;
        if (proof_->wanted()) {
          proof_->leaf(target, requests[i].node, row - asked_->first_row[asked_->rows[row].disjunct],
                       {tasks[number].alpha, store.width()}, {tasks[number].beta, one.splits.size()});
        }
        proved_[target] = std::min(proved_[target], tasks[number].bound);
      }
      if (track == 0 || one.bound[track] > one.bound[one.critical]) {
        one.critical = track;
        one.candidate = found[number];
      }
    }
  }

  /// The input, on the host.
  struct input_facts {
    std::vector<float> centre, reach;
    std::vector<index_t> slot;

    void read(M const& machine, stage_state const& s) {
      centre.resize(s.size);
      slot.resize(s.size);
      reach.resize(s.live_count);
      machine.read(centre.data(), s.centre, s.size);
      machine.read(slot.data(), s.slot, s.size);
      machine.read(reach.data(), s.reach, s.live_count);
    }
  };

  /// The corner of the box at which the relaxation of a row is least: a good place to begin an attack.
  [[nodiscard]] attack_point corner(row_view<Net, M> const& view, std::size_t row) const {
    float const* const a = view.coefficients(0);
    std::vector<double> moved(input_.reach.size());
    for (std::size_t c = 0; c < moved.size(); ++c) {
      double const reach = input_.reach[c];
      moved[c] = a[c] > 0 ? -reach : a[c] < 0 ? reach : 0.0;
    }
    return point(row, moved);
  }

  /// `moved`: deviation of each live input from its centre.
  [[nodiscard]] attack_point point(std::size_t row, std::span<double const> moved) const {
    attack_point result{asked_->rows[row].disjunct, *box_};
    for (std::size_t i = 0; i < input_.slot.size(); ++i) {
      input_range& x = result.at[i];
      index_t const slot = input_.slot[i];
      double const at = input_.centre[i] + (slot == stage_state::dead ? 0.0 : moved[slot]);
      x.lower = x.upper = std::clamp(at, x.lower, x.upper);
    }
    return result;
  }

  M* machine_;
  row_climber<Net, M>* climber_;
  network_state<Net> const* state_;
  problem const* asked_;
  branch_recorder<Net>* proof_;
  candidate_finder<Net, M> finder_;

  box_view box_ = nullptr;
  input_facts input_;
  std::vector<packed_alpha> root_start_;        // CROWN's parameters
  std::vector<std::vector<std::size_t>> rows_;  // [target][track] number of the row in the problem
  std::vector<double> proved_;                  // [target]
  std::vector<attack_point> corners_;
  double seconds_ = 0;

  // of the last round: thousands of vectors, which keep their memory
  batch work_;
  split_trials trials_;
};

}  // namespace hull
