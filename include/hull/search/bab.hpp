// SPDX-License-Identifier: Apache-2.0
// Branch and bound over the kinks of a network: beta-CROWN (Wang et al. 2021) with row-wise optimisation.
//
// A domain is a disjunct and a list of splits; it is closed when the bound of one of the disjunct's constraints refutes
// it. The bounds of hidden neurons are those of the root, where alpha-CROWN found them; splits only change the lines of
// the neurons they name, so all domains share one state and a domain is a few numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/attack.hpp>
#include <hull/search/branch_bounder.hpp>
#include <hull/search/branch_options.hpp>
#include <hull/search/branch_recorder.hpp>
#include <hull/search/frontier.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/stopwatch.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// `M` bounds, `A` attacks. Borrows everything.
template <Network Net, class M, class A>
class branch_and_bound final {
 public:
  branch_and_bound(M& machine, problem const& asked, specification const& spec, verify_options const& options,
                   confirm_function const& confirm, deadline const& end, branch_options const& how = {})
      : all_(machine, row_bytes(options), how.roots_only ? most_climbing : std::max(most_climbing, 2 * how.batch)),
        machine_(&machine),
        search_(machine.member(), std::size_t{16} << 20),
        asked_(&asked),
        spec_(&spec),
        options_(&options),
        confirm_(&confirm),
        end_(end),
        how_(how),
        proof_(options.proof),
        bounder_(machine, all_, asked, proof_) {
    all_.intersect_hidden(options.intersect_hidden);
    all_.stop_at(end_);
    if (proof_.wanted()) {
      all_.climber().tell([this](std::size_t node, std::size_t element, bool upper, std::span<float const> alpha) {
        proof_.bounded(node, element, upper, alpha);
      });
    }
  }
  branch_and_bound(branch_and_bound const&) = delete;  // its parts know each other
  branch_and_bound& operator=(branch_and_bound const&) = delete;
  ~branch_and_bound() = default;

  /// Settles `open`, disjuncts over one box; those that are refuted leave the list. Throws deadline_passed.
  /// The same seed visits the same domains. `attack_open(open)` runs on what the root leaves open; true ends the
  /// search.
  template <class Attack>
  search_end run(std::vector<std::size_t>& open, verify_report& report, Attack&& attack_open) {
    auto const& whole = *asked_->boxes[asked_->disjunct_box[open.front()]];
    report.planned_bytes = std::max(report.planned_bytes, all_.plan(1, hidden_bounds::alpha_crown));
    struct facts {  // also when the deadline passes
      branch_and_bound* self;
      verify_report* report;
      double seconds;
      ~facts() {
        report->peak_bytes = std::max(report->peak_bytes, self->machine_->memory().peak());
        report->search_bytes = std::max(report->search_bytes, self->frontier_peak_);
        report->kernel_seconds += self->bounder_.seconds() - seconds;
      }
    } facts{this, &report, bounder_.seconds()};
    frontier_peak_ = 0;
    auto const inputs = std::count_if(whole.begin(), whole.end(), [](input_range x) { return x.lower < x.upper; });
    cuts_ = !how_.roots_only && static_cast<std::size_t>(inputs) <= how_.cut_inputs;
    std::vector<box_part> parts;
    parts.push_back({whole, open, std::vector<std::uint32_t>(open.size(), proof_tree::root)});
    std::vector<std::size_t> left;
    for (bool first = true; !parts.empty(); first = false) {
      box_part part = std::move(parts.back());
      parts.pop_back();
      bool const found = search(
          part, report,
          [&](std::vector<std::size_t> const& those) {
            return first && attack_open(those);  // it is about the whole box
          },
          first);
      if (found) return search_end::counterexample;
      if (!part.open.empty() && !cut(part, whole, parts)) left.insert(left.end(), part.open.begin(), part.open.end());
    }
    std::sort(left.begin(), left.end());
    left.erase(std::unique(left.begin(), left.end()), left.end());
    open = left;
    return open.empty() ? search_end::refuted : search_end::gave_up;
  }

 private:
  /// A part of the box, and the disjuncts that are open there.
  struct box_part final {
    std::vector<input_range> box;
    std::vector<std::size_t> open;      // [target]
    std::vector<std::uint32_t> places;  // [target] in the proofs
    std::size_t depth = 0;              // number of cuts
  };
  /// A disjunct that the root leaves open.
  struct root_target final {
    std::vector<std::size_t> rows;  // [track] number in the problem, the nearest to a proof first
    std::vector<double> bound;      // [track]
    std::vector<float> alpha;       // [track, width]
    candidate_list candidate = no_candidates();
  };

  /// One tree of domains. Refuted disjuncts leave the part. True if a counterexample was confirmed.
  template <class Attack>
  bool search(box_part& part, verify_report& report, Attack&& attack_open, bool first) {
    box_view const box = &part.box;
    all_.run({&box, 1}, hidden_bounds::alpha_crown, how_.root);
    if (first) proof_.begin(*machine_, all_.state(), all_.climber().free());
    if (!first) proof_.again(*machine_, all_.state(), all_.climber().free());
    ++report.domains;
    auto roots = climb_root(part, first, report);
    auto& open = part.open;
    if (open.empty() || how_.roots_only) return false;
    detail::stopwatch const watch(report.tree_seconds);

    std::vector<std::vector<std::size_t>> rows;
    std::size_t tracks = 1;
    for (auto const& root : roots) {
      tracks = std::max(tracks, root.rows.size());
      rows.push_back(root.rows);
    }
    bounder_.begin(box, std::move(rows));
    frontier queue(tracks, all_.climber().width(), frontier_bytes());
    open_roots(part, roots, queue);
    // parameters of a round's children, which are beside the frontier
    std::size_t const round = 4 * tracks * (all_.climber().width() + 1) * sizeof(float);
    std::size_t const batch = std::clamp<std::size_t>(frontier_bytes() / 4 / round, 1, how_.batch);
    std::size_t const most = cuts_ && part.depth < how_.most_cuts ? report.domains + how_.cut_after : ~std::size_t{0};
    std::vector<char> unresolved(open.size(), 0);  // [target] has a domain that could not be settled
    bool attacked = false;
    auto const attack_now = [&] {
      attacked = true;
      double const before = report.attack_seconds;
      bool const found = attack_open(open);
      report.tree_seconds -= report.attack_seconds - before;
      return found;
    };
    for (std::size_t number = 1; queue.size() > 0 && report.domains < most; ++number) {
      end_.check();
      if (number == how_.attack_round && attack_now()) return true;
      bool const corners = (number & (number - 1)) == 0 || number % 64 == 0;
      auto const taken = queue.take(batch);
      bounder_.bring(queue, taken);
      if (attack_corners(report)) return true;
      std::vector<index_t> leaves, parents, parameters;
      bounder_.choose(queue, taken, leaves, parents, parameters);
      bound_children(queue, parents, parameters, corners ? how_.corners : 0, report);
      settle_leaves(queue, leaves, unresolved);
      for (index_t t = 0; t < open.size(); ++t) {
        if (unresolved[t]) queue.abandon(t);
      }
      frontier_peak_ = std::max(frontier_peak_, queue.peak_bytes());
    }
    if (attack_corners(report)) return true;
    for (index_t const slot : queue.open()) unresolved[queue.store().target[slot]] = 1;
    bool const settled = std::find(unresolved.begin(), unresolved.end(), 1) == unresolved.end();
    if (!attacked && !settled && attack_now()) return true;
    finish(part, unresolved, first, report);
    return false;
  }

  /// Both halves of a part take its place, cut where it is widest compared to the whole box. False if that is not
  /// worth it.
  bool cut(box_part const& part, std::vector<input_range> const& whole, std::vector<box_part>& parts) {
    if (!cuts_ || part.depth >= how_.most_cuts) return false;
    std::size_t coordinate = 0;
    double widest = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      double const all = whole[i].upper - whole[i].lower, here = part.box[i].upper - part.box[i].lower;
      if (all > 0 && here / all > widest) {
        widest = here / all;
        coordinate = i;
      }
    }
    auto const& x = part.box[coordinate];
    double const plane = 0.5 * (x.lower + x.upper);
    if (!(x.lower < plane && plane < x.upper)) return false;
    box_part low = part;
    ++low.depth;
    box_part high = low;
    low.box[coordinate].upper = high.box[coordinate].lower = plane;
    for (std::size_t t = 0; t < part.open.size(); ++t) {
      low.places[t] = proof_.cut(part.open[t], part.places[t], coordinate, plane);
      high.places[t] = low.places[t] + 1;
    }
    parts.push_back(std::move(high));
    parts.push_back(std::move(low));
    return true;
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

  /// Rows of all open disjuncts at the root. Refuted disjuncts leave; for the others, up to most_tracks rows are kept.
  [[nodiscard]] std::vector<root_target> climb_root(box_part& part, bool whole, verify_report& report) {
    static constexpr std::size_t most_tracks = 3;
    std::size_t const width = all_.climber().width();
    std::vector<float> start(width);
    all_.climber().start(start.data());
    std::vector<root_target> roots;
    std::size_t still = 0;
    for (std::size_t t = 0; t < part.open.size(); ++t) {
      std::size_t const d = part.open[t], first = asked_->first_row[d], count = asked_->first_row[d + 1] - first;
      std::vector<float> alphas(count * width);
      std::vector<form_task> tasks(count);
      std::vector<split_candidates> noted(count);
      for (std::size_t i = 0; i < count; ++i) {
        auto const& form = *asked_->rows[first + i].form;
        tasks[i] = {&form, {}, alphas.data() + i * width, nullptr, bounder_.goal(form)};
        std::copy(start.begin(), start.end(), tasks[i].alpha);
      }
      all_.climber().climb(tasks, how_.root, [&](ended_rows<Net, M> const& rows) {
        std::vector<std::size_t> every(rows.size());
        std::iota(every.begin(), every.end(), std::size_t{0});
        auto const scored = bounder_.finder().note(rows, every);
        for (std::size_t const i : every) noted[rows.number(i)] = scored[i];
      });
      auto const found = bounder_.finder().agree(noted);
      bool refuted = false;
      std::vector<std::size_t> order(count);
      for (std::size_t i = 0; i < count; ++i) {
        order[i] = i;
        if (whole) report.margins[first + i] = std::max(report.margins[first + i], tasks[i].bound);
        if (!refuted && refutes(tasks[i].bound, *tasks[i].form)) {
          refuted = true;
          proof_.root(d, part.places[t], i, {tasks[i].alpha, width});
        }
      }
      if (refuted) continue;
      part.open[still] = d;
      part.places[still++] = part.places[t];
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return tasks[a].bound > tasks[b].bound; });
      order.resize(std::min(order.size(), most_tracks));
      root_target& target = roots.emplace_back();
      for (std::size_t const i : order) {
        target.rows.push_back(first + i);
        target.bound.push_back(tasks[i].bound);
        target.alpha.insert(target.alpha.end(), tasks[i].alpha, tasks[i].alpha + width);
      }
      if (!order.empty()) target.candidate = found[order.front()];
    }
    part.open.resize(still);
    part.places.resize(still);
    return roots;
  }

  void open_roots(box_part const& part, std::vector<root_target> const& roots, frontier& queue) {
    proof_.open(part.open, part.places);
    for (std::size_t t = 0; t < roots.size(); ++t) {
      std::size_t const tracks = queue.store().tracks();
      std::vector<double> bound(tracks, -std::numeric_limits<double>::infinity());
      std::copy(roots[t].bound.begin(), roots[t].bound.end(), bound.begin());
      std::vector<float> alpha(tracks * queue.store().width());
      std::copy(roots[t].alpha.begin(), roots[t].alpha.end(), alpha.begin());
      index_t const slot =
          queue.store().add(split_tree::root, static_cast<index_t>(t), 0, 0, bound, roots[t].candidate);
      queue.push(slot, domain_store::packed(alpha), {}, t % machine_->ranks() == machine_->rank());
    }
  }

  void open_domain(frontier& queue, domain_request const& request, bounded_domain&& one) {
    auto& store = queue.store();
    index_t const slot =
        store.add(request.node, store.target[request.from], one.splits.size(), one.critical, one.bound, one.candidate);
    queue.push(slot, std::move(one.kept_alpha), std::move(one.beta), one.here);
  }

  /// Bounds both children of every parent on all tracks; the open ones go to the queue, the parents' slots are freed.
  void bound_children(frontier& queue, std::vector<index_t> const& parents, std::vector<index_t> const& parameters,
                      std::size_t corners, verify_report& report) {
    std::vector<domain_request> shallow, deep;
    for (std::size_t i = 0; i < parents.size(); ++i) {
      auto& requests = queue.store().depth[parents[i]] < how_.deep_from ? shallow : deep;
      index_t const above = queue.tree().add(queue.store().node[parents[i]], {parameters[i], 1.0f});
      index_t const below = queue.tree().add(queue.store().node[parents[i]], {parameters[i], -1.0f});
      requests.push_back({parents[i], above, 1});
      requests.push_back({parents[i], below, 1});
      proof_.split(queue.store().target[parents[i]], queue.store().node[parents[i]], above, below, parameters[i]);
    }
    report.domains += 2 * parents.size();
    auto const bound = [&](std::vector<domain_request> const& requests, ascent const& how) {
      bounder_.bound(queue, requests, how, corners, [&](std::size_t i, bounded_domain& one) {
        if (!one.refuted) open_domain(queue, requests[i], std::move(one));
      });
    };
    bound(shallow, how_.child);
    bound(deep, how_.deep);
    for (index_t const slot : parents) queue.store().remove(slot);
  }

  /// Domains without candidates. If their multipliers do not settle them and open no new candidates, the disjunct stays
  /// unsettled.
  void settle_leaves(frontier& queue, std::vector<index_t> const& leaves, std::vector<char>& unresolved) {
    for (index_t const slot : leaves) {
      domain_request const request{slot, queue.store().node[slot], 0};
      auto one = bounder_.settle(queue, request, how_.leaf, frontier_bytes() / 4);
      if (!one.refuted && one.candidate[0] == domain_store::none) unresolved[queue.store().target[slot]] = 1;
      if (!one.refuted && one.candidate[0] != domain_store::none) open_domain(queue, request, std::move(one));
      queue.store().remove(slot);
    }
  }

  /// True if a counterexample was confirmed; it is in the report then.
  bool attack_corners(verify_report& report) {
    auto corners = bounder_.take_corners();
    if (corners.empty()) return false;
    auto found = search_.search_from(*spec_, std::move(corners), how_.corner_steps, *confirm_, end_);
    if (found.empty()) return false;
    report.answer = verdict::sat;
    report.counterexample = std::move(found);
    return true;
  }

  /// Refuted disjuncts leave the part.
  void finish(box_part& part, std::vector<char> const& unresolved, bool whole, verify_report& report) {
    std::size_t still = 0;
    for (std::size_t t = 0; t < part.open.size(); ++t) {
      std::size_t const d = part.open[t];
      if (unresolved[t]) {
        part.open[still] = d;
        part.places[still++] = part.places[t];
      } else if (whole && asked_->first_row[d + 1] - asked_->first_row[d] == 1) {
        // the constraint of a disjunct with one alone has been proved in every leaf
        double& margin = report.margins[bounder_.rows()[t].front()];
        margin = std::max(margin, bounder_.proved(t));
      }
    }
    part.open.resize(still);
    part.places.resize(still);
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
  bool cuts_ = false;              // the box has few coordinates
  std::size_t frontier_peak_ = 0;  // bytes
  branch_recorder<Net> proof_;
  branch_bounder<Net, M> bounder_;
};

}  // namespace hull
