// SPDX-License-Identifier: Apache-2.0
// Branch and bound over the kinks of a network: beta-CROWN (Wang et al. 2021) with row-wise optimisation.
//
// A domain is a disjunct and a list of splits; it is closed when the bound of one of the disjunct's constraints refutes
// it. The bounds of hidden neurons are those of the root, where alpha-CROWN found them; splits only change the lines of
// the neurons they name, so all domains share one state and a domain is a few numbers.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/attack.hpp>
#include <hull/search/branch_recorder.hpp>
#include <hull/search/frontier.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/split.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// What a search over one box came to.
enum class search_end { refuted, counterexample, gave_up };

/// Settings that the command line does not offer.
struct branch_options final {
  std::size_t batch = 64;  // domains split in one round
  ascent root{.steps = 20, .alpha_rate = 0.1, .beta_rate = 0, .decay = 0.98, .patience = 10};
  // large steps that shrink fast: a warm start is left at once, and found again
  ascent child{.steps = 20, .alpha_rate = 0.1, .beta_rate = 0.05, .decay = 0.8, .patience = 20};
  ascent leaf{
      .steps = 300, .alpha_rate = 0.05, .beta_rate = 0.05, .decay = 0.985, .patience = 100};  // nothing to split
  std::size_t corners = 32;  // minimisers attacked at a time, in rounds 1, 2, 4, ... and every 64th
  std::size_t corner_steps = 12;
};

/// `M` bounds, `A` attacks. Borrows everything.
template <Network Net, class M, class A>
class branch_and_bound final {
 public:
  static constexpr std::size_t each = domain_store::candidates / 2;

  branch_and_bound(M& machine, A& attacker, problem const& asked, specification const& spec,
                   verify_options const& options, confirm_function const& confirm, deadline const& end,
                   branch_options const& how = {})
      : all_(machine, row_bytes(options)),
        machine_(&machine),
        search_(attacker, std::size_t{16} << 20),
        asked_(&asked),
        spec_(&spec),
        options_(&options),
        confirm_(&confirm),
        end_(end),
        how_(how),
        proof_(options.proof) {
    all_.intersect_hidden(options.intersect_hidden);
    all_.stop_at(end_);
    if (proof_.wanted()) {
      all_.climber().tell([this](std::size_t node, std::size_t element, bool upper, std::span<float const> alpha) {
        proof_.bounded(node, element, upper, alpha);
      });
    }
  }

  /// Settles `open`, disjuncts over one box; those that are refuted leave the list. Throws deadline_passed.
  /// The same seed visits the same domains. `attack_open(open)` runs on what the root leaves open; true ends the
  /// search.
  template <class Attack>
  search_end run(std::vector<std::size_t>& open, verify_report& report, Attack&& attack_open) {
    box_ = asked_->boxes[asked_->disjunct_box[open.front()]];
    report.planned_bytes = std::max(report.planned_bytes, all_.plan(1, hidden_bounds::alpha_crown) + frontier_bytes());
    struct facts {  // also when the deadline passes
      branch_and_bound* self;
      verify_report* report;
      std::size_t frontier = 0;
      ~facts() { report->peak_bytes = std::max(report->peak_bytes, self->machine_->memory().peak() + frontier); }
    } facts{this, &report};
    all_.run({&box_, 1}, hidden_bounds::alpha_crown, how_.root);
    proof_.begin(all_.state(), all_.climber().free());
    ++report.domains;
    climb_root(open, report);
    if (open.empty()) return search_end::refuted;
    if (attack_open(open)) return search_end::counterexample;

    std::size_t tracks = 1;
    for (auto const& rows : rows_) tracks = std::max(tracks, rows.size());
    frontier queue(tracks, all_.climber().width(), frontier_bytes());
    open_roots(open, queue);
    proved_.assign(open.size(), std::numeric_limits<double>::infinity());
    // parameters of a round's children, which are beside the frontier
    std::size_t const round = 4 * tracks * (all_.climber().width() + 1) * sizeof(float);
    std::size_t const batch = std::clamp<std::size_t>(frontier_bytes() / 4 / round, 1, how_.batch);
    std::vector<index_t> unresolved;  // targets with a domain that could not be settled
    for (std::size_t round_number = 1; queue.size() > 0; ++round_number) {
      end_.check();
      collect_corners_ = (round_number & (round_number - 1)) == 0 || round_number % 64 == 0;
      auto const taken = queue.take(batch);
      if (attack_corners(report)) return search_end::counterexample;
      std::vector<index_t> leaves, parents, parameters;
      choose(queue, taken, leaves, parents, parameters);
      bound_children(queue, parents, parameters, report);
      settle_leaves(queue, leaves, unresolved);
      for (index_t const target : unresolved) queue.abandon(target);
      facts.frontier = queue.peak_bytes() + batch * round;
    }
    if (attack_corners(report)) return search_end::counterexample;
    std::vector<std::size_t> left;
    for (std::size_t t = 0; t < open.size(); ++t) {
      bool const settled = std::find(unresolved.begin(), unresolved.end(), t) == unresolved.end();
      // the constraint of a disjunct with one alone has been proved in every leaf
      if (settled && rows_[t].size() == 1 && asked_->first_row[open[t] + 1] - asked_->first_row[open[t]] == 1) {
        double& margin = report.margins[rows_[t].front()];
        margin = std::max(margin, proved_[t]);
      }
    }
    for (index_t const t : unresolved) left.push_back(open[t]);
    std::sort(left.begin(), left.end());
    left.erase(std::unique(left.begin(), left.end()), left.end());
    open = left;
    return unresolved.empty() ? search_end::refuted : search_end::gave_up;
  }

 private:
  using candidate_list = std::array<index_t, domain_store::candidates>;
  static candidate_list no_candidates() {
    candidate_list none;
    none.fill(domain_store::none);
    return none;
  }

  [[nodiscard]] static std::size_t fixed_bytes() { return network_state<Net>::bytes(1) + free_state<Net>::bytes(); }
  [[nodiscard]] static std::size_t row_bytes(verify_options const& options) {
    return options.memory_budget > fixed_bytes() ? (options.memory_budget - fixed_bytes()) / 2 : 0;
  }
  /// What the buffers of propagation leave of the budget.
  [[nodiscard]] std::size_t frontier_bytes() const {
    std::size_t const plan = all_.plan(1, hidden_bounds::alpha_crown);
    return options_->memory_budget > plan ? options_->memory_budget - plan : 0;
  }

  [[nodiscard]] problem_row const& row(std::size_t number) const { return asked_->rows[number]; }

  /// A row may end as soon as its constraint is refuted.
  [[nodiscard]] static double goal(linear_constraint const& form) {
    return form.strict ? -std::numeric_limits<double>::denorm_min() : 0.0;
  }

  /// Rows of all open disjuncts at the root. Refuted disjuncts leave; for the others, up to most_tracks rows are kept.
  void climb_root(std::vector<std::size_t>& open, verify_report& report) {
    static constexpr std::size_t most_tracks = 3;
    std::size_t const width = all_.climber().width();
    root_alpha_.assign(width, 0);
    all_.climber().start(root_alpha_.data());
    rows_.clear();
    std::vector<std::size_t> still;
    tracks_.clear();
    for (std::size_t const d : open) {
      std::size_t const first = asked_->first_row[d], count = asked_->first_row[d + 1] - first;
      std::vector<float> alphas(count * width);
      std::vector<form_task> tasks(count);
      std::vector<candidate_list> found(count);
      for (std::size_t i = 0; i < count; ++i) {
        tasks[i] = {row(first + i).form, {}, alphas.data() + i * width, nullptr, goal(*row(first + i).form)};
        std::copy(root_alpha_.begin(), root_alpha_.end(), tasks[i].alpha);
      }
      all_.climber().climb(tasks, how_.root,
                           [&](std::size_t i, row_view<Net> const& view) { note(view, {}, found[i]); });
      bool refuted = false;
      std::vector<std::size_t> order(count);
      for (std::size_t i = 0; i < count; ++i) {
        order[i] = i;
        report.margins[first + i] = std::max(report.margins[first + i], tasks[i].bound);
        if (!refuted && refutes(tasks[i].bound, *tasks[i].form)) {
          refuted = true;
          proof_.root(d, i, {tasks[i].alpha, width});
        }
      }
      if (refuted) continue;
      still.push_back(d);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return tasks[a].bound > tasks[b].bound; });
      order.resize(std::min(order.size(), most_tracks));
      target_tracks target;
      rows_.emplace_back();
      for (std::size_t const i : order) {
        rows_.back().push_back(first + i);
        target.bound.push_back(tasks[i].bound);
        target.alpha.insert(target.alpha.end(), tasks[i].alpha, tasks[i].alpha + width);
      }
      if (!order.empty()) target.candidate = found[order.front()];
      tracks_.push_back(std::move(target));
    }
    open = still;
  }

  void open_roots(std::vector<std::size_t> const& open, frontier& queue) {
    proof_.open(open);
    for (std::size_t t = 0; t < open.size(); ++t) {
      auto& store = queue.store();
      index_t const slot = store.add();
      store.node[slot] = split_tree::root;
      store.target[slot] = static_cast<index_t>(t);
      store.depth[slot] = store.critical[slot] = 0;
      auto const& target = tracks_[t];
      store.worst[slot] = target.bound.empty() ? -std::numeric_limits<double>::infinity() : target.bound.front();
      std::copy(target.bound.begin(), target.bound.end(), store.bound.begin() + offset(store, slot));
      std::copy(target.candidate.begin(), target.candidate.end(), store.candidate.begin() + candidate_offset(slot));
      std::vector<float> alpha(store.tracks() * store.width());
      std::copy(target.alpha.begin(), target.alpha.end(), alpha.begin());
      queue.push(slot, alpha, {});
    }
  }

  static std::ptrdiff_t offset(domain_store const& store, index_t slot) {
    return static_cast<std::ptrdiff_t>(slot * store.tracks());
  }
  static std::ptrdiff_t candidate_offset(index_t slot) {
    return static_cast<std::ptrdiff_t>(slot * domain_store::candidates);
  }

  /// Candidates of a row, `none` behind the last.
  void note(row_view<Net> const& view, std::span<split const> splits, candidate_list& found) const {
    found = no_candidates();
    static_cast<void>(find_candidates<each, Net>(view, splits, found));
  }

  /// kFSB: bounds both children of every candidate on the critical row, without optimising, and takes the candidate
  /// whose worse child is best. Domains without candidates are leaves.
  void choose(frontier& queue, std::vector<index_t> const& taken, std::vector<index_t>& leaves,
              std::vector<index_t>& parents, std::vector<index_t>& parameters) {
    auto& store = queue.store();
    std::size_t const width = store.width();
    std::vector<float> alpha(taken.size() * width);
    std::vector<std::vector<split>> splits;
    std::vector<std::vector<float>> betas;
    struct trial {
      std::size_t domain;
      index_t parameter;
      float const* alpha;
    };
    std::vector<trial> trials;
    for (std::size_t d = 0; d < taken.size(); ++d) {
      index_t const slot = taken[d];
      auto const* const found = store.candidate.data() + candidate_offset(slot);
      if (found[0] == domain_store::none) {
        leaves.push_back(slot);
        continue;
      }
      store.recall(slot, store.critical[slot], root_alpha_, alpha.data() + d * width);
      for (std::size_t i = 0; i < domain_store::candidates && found[i] != domain_store::none; ++i) {
        trials.push_back({d, found[i], alpha.data() + d * width});
        for (float const sign : {1.0f, -1.0f}) {
          queue.tree().path(store.node[slot], splits.emplace_back());
          auto& beta = betas.emplace_back();
          for (std::size_t q = 0; q < splits.back().size(); ++q)
            beta.push_back(store.beta(slot, store.critical[slot], q));
          beta.push_back(unset_beta);
          splits.back().push_back({found[i], sign});
        }
      }
    }
    std::vector<form_task> tasks(2 * trials.size());
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      index_t const slot = taken[trials[i / 2].domain];
      auto const* form = row(rows_[store.target[slot]][store.critical[slot]]).form;
      // evaluation alone writes to neither
      tasks[i] = {form, splits[i], const_cast<float*>(trials[i / 2].alpha), betas[i].data(), goal(*form)};
    }
    all_.climber().climb(tasks, ascent{.steps = 0}, [](std::size_t, row_view<Net> const&) {});
    for (std::size_t i = 0; i < trials.size();) {
      std::size_t const d = trials[i].domain;
      double const before = queue.store().worst[taken[d]];
      index_t best = trials[i].parameter;
      double best_gain = -1;
      for (; i < trials.size() && trials[i].domain == d; ++i) {
        // a child that is proved is as good as it gets; the product wants progress in both
        double const least = 1e-4 * std::fabs(before);
        double const a = std::max(std::min(tasks[2 * i].bound, 0.0) - before, least);
        double const b = std::max(std::min(tasks[2 * i + 1].bound, 0.0) - before, least);
        if (a * b > best_gain) {
          best = trials[i].parameter;
          best_gain = a * b;
        }
      }
      parents.push_back(taken[d]);
      parameters.push_back(best);
    }
  }

  /// Bounds both children of every parent on all tracks; the open ones go to the queue, the parents' slots are freed.
  void bound_children(frontier& queue, std::vector<index_t> const& parents, std::vector<index_t> const& parameters,
                      verify_report& report) {
    std::vector<domain_request> requests;
    for (std::size_t i = 0; i < parents.size(); ++i) {
      for (float const sign : {1.0f, -1.0f}) {
        index_t const node = queue.tree().add(queue.store().node[parents[i]], {parameters[i], sign});
        requests.push_back({parents[i], node});
      }
      proof_.split(queue.store().target[parents[i]], queue.store().node[parents[i]], requests[2 * i].node,
                   requests[2 * i + 1].node, parameters[i]);
    }
    report.domains += requests.size();
    bound_domains(queue, requests, how_.child, [&](std::size_t i, settled_domain& one) {
      if (one.refuted) return;
      open_domain(queue, requests[i], one);
    });
    for (index_t const slot : parents) queue.store().remove(slot);
  }

  /// Domains in which no split is left that matters: the multipliers have to do it, with more steps. If those do not
  /// settle it either, and open no new candidates, the disjunct stays unsettled.
  void settle_leaves(frontier& queue, std::vector<index_t> const& leaves, std::vector<index_t>& unresolved) {
    std::vector<domain_request> requests;
    for (index_t const slot : leaves) requests.push_back({slot, queue.store().node[slot]});
    bound_domains(queue, requests, how_.leaf, [&](std::size_t i, settled_domain& one) {
      if (one.refuted) return;
      if (one.candidate[0] == domain_store::none) {
        unresolved.push_back(queue.store().target[requests[i].from]);
      } else {
        open_domain(queue, requests[i], one);
      }
    });
    for (index_t const slot : leaves) queue.store().remove(slot);
  }

  struct target_tracks final {
    std::vector<double> bound;  // [track]
    std::vector<float> alpha;   // [track, width]
    candidate_list candidate = no_candidates();
  };
  struct domain_request final {
    index_t from;  // slot that gives target, bounds and parameters to start with
    index_t node;  // splits of the domain
  };
  struct settled_domain final {
    bool refuted = false;
    std::size_t critical = 0;
    std::vector<double> bound;  // [track]
    std::vector<float> alpha;   // [track, width]
    std::vector<float> beta;    // [track, splits]
    std::vector<split> splits;
    candidate_list candidate = no_candidates();
  };

  void open_domain(frontier& queue, domain_request const& request, settled_domain const& one) {
    auto& store = queue.store();
    index_t const slot = store.add();
    store.node[slot] = request.node;
    store.target[slot] = store.target[request.from];
    store.depth[slot] = static_cast<index_t>(one.splits.size());
    store.critical[slot] = static_cast<index_t>(one.critical);
    store.worst[slot] = one.bound[one.critical];
    std::copy(one.bound.begin(), one.bound.end(), store.bound.begin() + offset(store, slot));
    std::copy(one.candidate.begin(), one.candidate.end(), store.candidate.begin() + candidate_offset(slot));
    queue.push(slot, one.alpha, one.beta);
  }

  /// Optimises all tracks of the domains; `use(number, result)` sees each.
  template <class Use>
  void bound_domains(frontier& queue, std::vector<domain_request> const& requests, ascent const& how, Use&& use) {
    if (requests.empty()) return;
    auto& store = queue.store();
    std::size_t const width = store.width();
    std::vector<settled_domain> results(requests.size());
    std::vector<form_task> tasks;
    std::vector<std::array<std::size_t, 2>> who;  // request and track of each task
    std::vector<candidate_list> found;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      auto& one = results[i];
      index_t const from = requests[i].from;
      auto const& rows = rows_[store.target[from]];
      queue.tree().path(requests[i].node, one.splits);
      one.alpha.resize(store.tracks() * width);
      one.beta.assign(store.tracks() * one.splits.size(), unset_beta);
      one.bound.assign(store.tracks(), -std::numeric_limits<double>::infinity());
      for (std::size_t t = 0; t < rows.size(); ++t) {
        float* const alpha = one.alpha.data() + t * width;
        float* const beta = one.beta.data() + t * one.splits.size();
        store.recall(from, t, root_alpha_, alpha);
        for (std::size_t q = 0; q < store.depth[from]; ++q) beta[q] = store.beta(from, t, q);
        auto const* form = row(rows[t]).form;
        // what holds in the parent holds here
        tasks.push_back({form, one.splits, alpha, beta, goal(*form), store.bound[from * store.tracks() + t]});
        who.push_back({i, t});
      }
    }
    found.assign(tasks.size(), no_candidates());
    all_.climber().climb(tasks, how, [&](std::size_t number, row_view<Net> const& view) {
      if (refutes(tasks[number].bound, *tasks[number].form)) return;
      note(view, tasks[number].splits, found[number]);
      if (collect_corners_ && corners_.size() < how_.corners)
        note_corner(view, rows_[store.target[requests[who[number][0]].from]][who[number][1]]);
    });
    for (std::size_t number = 0; number < tasks.size(); ++number) {
      auto& one = results[who[number][0]];
      std::size_t const t = who[number][1];
      one.bound[t] = tasks[number].bound;
      if (refutes(tasks[number].bound, *tasks[number].form)) {
        one.refuted = true;
        auto const& request = requests[who[number][0]];
        std::size_t const target = store.target[request.from], row_number = rows_[target][t];
        proof_.leaf(target, request.node, row_number - asked_->first_row[row(row_number).disjunct],
                    {tasks[number].alpha, width}, {tasks[number].beta, one.splits.size()});
        double& least = proved_[store.target[requests[who[number][0]].from]];
        least = std::min(least, tasks[number].bound);
      }
      if (t == 0 || one.bound[t] > one.bound[one.critical]) {
        one.critical = t;
        one.candidate = found[number];
      }
    }
    for (std::size_t i = 0; i < requests.size(); ++i) use(i, results[i]);
  }

  /// The corner of the box at which the relaxation of a row is least: a good place to begin an attack.
  void note_corner(row_view<Net> const& view, std::size_t number) {
    auto const& input = view.state->stage[0];
    float const* const a = view.coefficients(0);
    attack_point point{row(number).disjunct, *box_};
    for (std::size_t i = 0; i < input.size; ++i) {
      index_t const slot = input.slot[i];
      input_range& x = point.at[i];
      if (slot != stage_state::dead && a[slot] > 0) {
        x.upper = x.lower;
      } else if (slot != stage_state::dead && a[slot] < 0) {
        x.lower = x.upper;
      } else {
        x.lower = x.upper = std::clamp(0.5 * (x.lower + x.upper), x.lower, x.upper);
      }
    }
    corners_.push_back(std::move(point));
  }

  /// True if a counterexample was confirmed; it is in the report then.
  bool attack_corners(verify_report& report) {
    if (corners_.empty()) return false;
    auto found = search_.search_from(*spec_, std::move(corners_), how_.corner_steps, *confirm_, end_);
    corners_.clear();
    if (found.empty()) return false;
    report.answer = verdict::sat;
    report.counterexample = std::move(found);
    return true;
  }

  propagation<Net, M> all_;
  M* machine_;
  attack<Net, A> search_;
  problem const* asked_;
  specification const* spec_;
  verify_options const* options_;
  confirm_function const* confirm_;
  deadline end_;
  branch_options how_;

  box_view box_ = nullptr;
  std::vector<float> root_alpha_;               // CROWN's parameters
  std::vector<std::vector<std::size_t>> rows_;  // [target][track] number of the row in the problem
  std::vector<target_tracks> tracks_;           // [target] at the root
  std::vector<double> proved_;                  // [target] least bound of the domains that were closed
  bool collect_corners_ = false;
  std::vector<attack_point> corners_;
  branch_recorder<Net> proof_;
};

}  // namespace hull
