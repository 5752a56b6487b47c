// SPDX-License-Identifier: Apache-2.0
// From a specification to a verdict: bound, attack, bound tighter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>
#include <hull/propagate/memory.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/attack.hpp>
#include <hull/search/bab.hpp>
#include <hull/search/certificate.hpp>
#include <hull/search/engine.hpp>
#include <hull/search/input_bab.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/stopwatch.hpp>

namespace hull {

/// `Home` is where the network's parameters are on this rank, and the machines that see them (shard/home.hpp). With
/// several ranks all of them call the same functions with the same arguments, and get the same answers.
template <Network Net, class Home>
class verifier final : public engine {
  using M = typename Home::machine_type;   // bounds with the rounding that is asked for
  using H = typename Home::host_type;      // the same for input splitting; it may be M
  using A = typename Home::attacker_type;  // as H with `Nearest`, for the attack

 public:
  template <class... Ranks>
  explicit verifier(parameter_source const& source, Ranks&... ranks)
      : home_(source, ranks...), machine_(home_.machine()) {}

  [[nodiscard]] verify_report verify(specification const& spec, verify_options const& options,
                                     confirm_function const& confirm) override {
    expect_room(options, options.method == bound_method::interval ? hidden_bounds::interval
                         : options.method == bound_method::crown  ? hidden_bounds::crown
                                                                  : hidden_bounds::alpha_crown);
    problem const asked(spec, graph<Net>::input_size, graph<Net>::output_size);
    deadline end = std::isfinite(options.timeout) ? deadline(options.timeout) : deadline();
    end.watch(options.interrupt);
    home_.agree(end);
    verify_report report;
    report.margins.assign(asked.rows.size(), -std::numeric_limits<double>::infinity());
    if (options.proof != nullptr) {
      options.proof->hints.clear();
      options.proof->disjuncts.assign(asked.disjuncts(), {});
    }

    std::vector<std::size_t> open(asked.disjuncts());
    std::iota(open.begin(), open.end(), std::size_t{0});
    try {
      // cheap steps first: intervals, a short attack, CROWN, and the whole attack on what is left
      if (options.method != bound_method::crown) prove(asked, open, hidden_bounds::interval, options, end, report);
      if (attack_all(spec, open, 2, options, confirm, end, report)) return finished(report);
      if (options.method != bound_method::interval) prove(asked, open, hidden_bounds::crown, options, end, report);
      // where a search follows, it attacks again what alpha-CROWN leaves open
      std::size_t const restarts = branches(options) ? std::min<std::size_t>(8, options.restarts) : options.restarts;
      if (attack_all(spec, open, restarts, options, confirm, end, report)) return finished(report);
      // branch and bound's root is alpha-CROWN that notes its slopes
      bool const notes = options.method == bound_method::alpha_crown && options.proof != nullptr;
      if (options.method == bound_method::alpha_crown && !notes) {
        prove(asked, open, hidden_bounds::alpha_crown, options, end, report);
      }
      if ((branches(options) || notes) && settle(asked, spec, open, options, confirm, end, report)) {
        return finished(report);
      }
      report.answer = open.empty() ? verdict::unsat : verdict::unknown;
    } catch (deadline_passed const&) {
      report.answer = verdict::timeout;
    }
    if (report.answer == verdict::unknown && end.passed()) report.answer = verdict::timeout;
    return finished(report);
  }

  [[nodiscard]] bounds_report bounds(specification const& spec, verify_options const& options,
                                     std::size_t repeat) override {
    problem const asked(spec, graph<Net>::input_size, graph<Net>::output_size);
    expect(asked.disjuncts() > 0, spec.source + ": no box of inputs");
    auto const method = options.method == bound_method::interval      ? hidden_bounds::interval
                        : options.method == bound_method::alpha_crown ? hidden_bounds::alpha_crown
                                                                      : hidden_bounds::crown;
    expect_room(options, method);
    std::vector<input_range> joined = *asked.boxes.front();
    for (box_view box : asked.boxes) {
      for (std::size_t i = 0; i < joined.size(); ++i) {
        joined[i].lower = std::min(joined[i].lower, (*box)[i].lower);
        joined[i].upper = std::max(joined[i].upper, (*box)[i].upper);
      }
    }

    bounds_report report;
    propagation<Net, M> all(machine_, row_budget(options, 1, method));
    all.intersect_hidden(options.intersect_hidden);
    box_view const box = &joined;
    verify_report rows;
    for (std::size_t run = 0; run < std::max<std::size_t>(1, repeat); ++run) {
      detail::stopwatch const watch(report.seconds.emplace_back(0.0));
      all.run({&box, 1}, method);
      if (asked.boxes.size() == 1) {
        report.rows = row_bounds(all, asked, {0, 1}, method);
      }
    }
    collect(all, method, report);
    if (asked.boxes.size() != 1) {
      std::vector<std::size_t> open(asked.disjuncts());
      std::iota(open.begin(), open.end(), std::size_t{0});
      rows.margins.assign(asked.rows.size(), -std::numeric_limits<double>::infinity());
      prove(asked, open, method, options, deadline(), rows);
      report.rows = rows.margins;
    }
    report.planned_bytes = all.plan(1, method);
    report.peak_bytes = machine_.memory().peak();
    report.device_name = Home::device_name();
    report.ranks = home_.memory(report.planned_bytes, report.peak_bytes);
    return report;
  }

 private:
  /// Until the end of its scope a search over inputs works. If it has another kind of memory, that counts as the
  /// search's, and what is planned and used for bounds stays as it is.
  class search_memory final {
   public:
    explicit search_memory(verify_report& report)
        : report_(&report), planned_(report.planned_bytes), peak_(report.peak_bytes) {
      if (Home::host_apart) report.planned_bytes = report.peak_bytes = 0;
    }
    search_memory(search_memory const&) = delete;
    search_memory& operator=(search_memory const&) = delete;
    ~search_memory() {
      if (!Home::host_apart) return;
      report_->search_bytes += report_->peak_bytes;
      report_->planned_bytes = planned_;
      report_->peak_bytes = peak_;
    }

   private:
    verify_report* report_;
    std::size_t planned_, peak_;
  };

  /// Adds what every rank has used.
  [[nodiscard]] verify_report& finished(verify_report& report) {
    report.device_name = Home::device_name();
    report.ranks = home_.memory(report.planned_bytes, report.peak_bytes, report.search_bytes);
    return report;
  }

  [[nodiscard]] static std::size_t row_budget(verify_options const& options, std::size_t boxes,
                                              hidden_bounds method = hidden_bounds::crown) {
    std::size_t const free = method == hidden_bounds::alpha_crown ? free_state<Net>::bytes() : 0;
    std::size_t const state = network_state<Net>::bytes(boxes) + free;
    return options.memory_budget > state ? options.memory_budget - state : 0;
  }

  /// Bytes below which the bounds of so many boxes cannot be had.
  [[nodiscard]] std::size_t least_bytes(hidden_bounds method, std::size_t boxes) const {
    return memory_of<Net, M>::total({method, boxes, 0, true, machine_.parts(), M::threads()});
  }

  /// Throws hull::error if one box does not fit into the budget.
  void expect_room(verify_options const& options, hidden_bounds method) const {
    std::size_t least = least_bytes(method, 1);
    if (branches(options)) least = std::max(least, input_bounder<Net, H, A>::least_bytes());
    expect(options.memory_budget >= least, "the memory budget is " + std::to_string(options.memory_budget) +
                                               " bytes, this network needs " + std::to_string(least));
  }

  /// As many boxes at a time as take at most half the budget, and leave enough for their rows.
  [[nodiscard]] std::size_t batch_size(verify_options const& options, hidden_bounds method) const {
    std::size_t const one = network_state<Net>::bytes(1);
    std::size_t boxes = std::clamp<std::size_t>(options.memory_budget / 2 / one, 1, 256);
    while (boxes > 1 && least_bytes(method, boxes) > options.memory_budget) --boxes;
    return boxes;
  }

  /// Bounds of the rows whose boxes are [boxes.first, boxes.last) of the problem, which are the batch of `all`.
  [[nodiscard]] static std::vector<double> row_bounds(propagation<Net, M>& all, problem const& asked, row_range boxes,
                                                      hidden_bounds method) {
    std::vector<row_form> forms;
    for (auto const& row : asked.rows) {
      if (row.box >= boxes.first && row.box < boxes.last) {
        forms.push_back({static_cast<index_t>(row.box - boxes.first), row.form});
      }
    }
    return bound_forms(all, forms, method);
  }

  [[nodiscard]] static std::vector<double> bound_forms(propagation<Net, M>& all, std::span<row_form const> forms,
                                                       hidden_bounds method) {
    if (method == hidden_bounds::interval) return all.interval_bounds(forms);
    auto lower = all.lower_bounds(forms);
    if (method == hidden_bounds::alpha_crown) {
      auto const climbed = all.climbed_bounds(forms);
      for (std::size_t i = 0; i < lower.size(); ++i) lower[i] = std::max(lower[i], climbed[i]);
    }
    return lower;
  }

  /// Bounds the rows of the open disjuncts, batch by batch, and drops those that are refuted.
  void prove(problem const& asked, std::vector<std::size_t>& open, hidden_bounds method, verify_options const& options,
             deadline const& end, verify_report& report) {
    detail::stopwatch const watch(report.bound_seconds);
    std::vector<char> refuted(asked.disjuncts(), 0);
    std::size_t const batch = method == hidden_bounds::alpha_crown ? 1 : batch_size(options, method);
    for (std::size_t first = 0; first < open.size();) {
      // the next open disjuncts whose boxes fit into one batch
      std::vector<box_view> boxes;
      std::vector<row_form> forms;
      std::vector<std::size_t> numbers;  // of the rows
      std::size_t last = first, previous = ~std::size_t{0};
      for (; last < open.size(); ++last) {
        std::size_t const box = asked.disjunct_box[open[last]];
        if (box != previous) {
          if (boxes.size() == batch) break;
          boxes.push_back(asked.boxes[box]);
          previous = box;
        }
        for (std::size_t row = asked.first_row[open[last]]; row < asked.first_row[open[last] + 1]; ++row) {
          forms.push_back({static_cast<index_t>(boxes.size() - 1), asked.rows[row].form});
          numbers.push_back(row);
        }
      }
      propagation<Net, M> all(machine_, row_budget(options, boxes.size(), method));
      all.intersect_hidden(options.intersect_hidden);
      all.stop_at(end);
      report.planned_bytes = std::max(report.planned_bytes, all.plan(boxes.size(), method));
      all.run(boxes, method);
      auto const lower = bound_forms(all, forms, method);
      report.peak_bytes = std::max(report.peak_bytes, machine_.memory().peak());
      report.domains += boxes.size();
      for (std::size_t i = 0; i < forms.size(); ++i) {
        report.margins[numbers[i]] = std::max(report.margins[numbers[i]], lower[i]);
        if (!refutes(lower[i], *forms[i].form)) continue;
        std::size_t const d = asked.rows[numbers[i]].disjunct;
        refuted[d] = 1;
        if (options.proof == nullptr) continue;
        options.proof->disjuncts[d].tree.refute(proof_tree::root, numbers[i] - asked.first_row[d]);
      }
      first = last;
    }
    std::erase_if(open, [&](std::size_t d) { return refuted[d] != 0; });
  }

  [[nodiscard]] static bool branches(verify_options const& options) {
    return options.method == bound_method::branch || options.method == bound_method::automatic;
  }

  /// Branch and bound over inputs, then over kinks. True if the report has the answer.
  bool settle(problem const& asked, specification const& spec, std::vector<std::size_t>& open,
              verify_options const& options, confirm_function const& confirm, deadline const& end,
              verify_report& report) {
    if (search_memory const apart(report);
        branches(options) && search_inputs<Net, H, A>(home_.member(), asked, spec, open, options, confirm, end, report))
      return true;
    return branch(asked, spec, open, options, confirm, end, report);
  }

  /// Branch and bound over kinks, or its roots alone, one box after the other. True if a counterexample was confirmed.
  bool branch(problem const& asked, specification const& spec, std::vector<std::size_t>& open,
              verify_options const& options, confirm_function const& confirm, deadline const& end,
              verify_report& report) {
    if (open.empty()) return false;
    detail::stopwatch const watch(report.search_seconds);
    branch_and_bound<Net, M, A> search(machine_, asked, spec, options, confirm, end,
                                       {.roots_only = !branches(options), .batch = M::domains_at_once});
    std::vector<std::size_t> left;
    for (std::size_t first = 0, last = 0; first < open.size(); first = last) {
      while (last < open.size() && asked.disjunct_box[open[last]] == asked.disjunct_box[open[first]]) ++last;
      std::vector<std::size_t> some(open.begin() + static_cast<std::ptrdiff_t>(first),
                                    open.begin() + static_cast<std::ptrdiff_t>(last));
      auto const attack_open = [&](std::span<std::size_t const> those) {
        return attack_all(spec, those, options.restarts, options, confirm, end, report);
      };
      if (search.run(some, report, attack_open) == search_end::counterexample) return true;
      left.insert(left.end(), some.begin(), some.end());
    }
    open = std::move(left);
    return false;
  }

  /// True if a counterexample was confirmed; it is in the report then. The open disjuncts are attacked in groups as
  /// large as half the memory budget allows, for a fifth of the time that is left: the rest is for the search.
  bool attack_all(specification const& spec, std::span<std::size_t const> open, std::size_t restarts,
                  verify_options const& options, confirm_function const& confirm, deadline const& end,
                  verify_report& report) {
    detail::stopwatch const watch(report.attack_seconds);
    std::size_t const points =
        std::clamp<std::size_t>(options.memory_budget / 2 / network_state<Net>::bytes(1), 1, 1024);
    std::size_t const each = std::min(restarts, points);
    std::size_t const group = std::max<std::size_t>(1, points / std::max<std::size_t>(1, each));
    attack<Net, A> search(home_.member(), row_budget(options, points));
    deadline const sooner = end.after(0.2);
    for (std::size_t first = 0; first < open.size() && !sooner.passed(); first += group) {
      auto const some = open.subspan(first, std::min(group, open.size() - first));
      auto found = search.search(spec, some, each, options, confirm, sooner);
      if (found.empty()) continue;
      report.answer = verdict::sat;
      report.counterexample = std::move(found);
      return true;
    }
    return false;
  }

  /// Copies the bounds of every pre-activation and of the output.
  void collect(propagation<Net, M>& all, hidden_bounds method, bounds_report& report) {
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      if (S::info.pass) return;
      auto& node = report.nodes.emplace_back();
      node.node = S::info.head;
      machine_.template head_bounds<S>(all.state(), node.lower, node.upper);
    });
    auto const& output = all.state().stage[stage_count<Net> - 1];
    node_bounds last{graph<Net>::size - 1, std::vector<float>(output.size), std::vector<float>(output.size)};
    std::vector<float> centre(output.size), spread(output.size);
    machine_.read(centre.data(), output.centre, output.size);
    machine_.read(spread.data(), output.spread, output.size);
    for (std::size_t i = 0; i < output.size; ++i) {
      last.lower[i] = down::sub(centre[i], spread[i]);
      last.upper[i] = up::add(centre[i], spread[i]);
    }
    if (method != hidden_bounds::interval) {
      std::vector<linear_constraint> forms(2 * output.size);
      std::vector<row_form> rows;
      for (std::size_t i = 0; i < output.size; ++i) {
        forms[2 * i].outputs = {{i, 1.0}};
        forms[2 * i + 1].outputs = {{i, -1.0}};
      }
      for (auto const& form : forms) rows.push_back({0, &form});
      auto const lower = bound_forms(all, rows, method);
      for (std::size_t i = 0; i < output.size; ++i) {
        last.lower[i] = down::from_double(lower[2 * i]);
        last.upper[i] = up::from_double(-lower[2 * i + 1]);
      }
    }
    if (!report.nodes.empty() && report.nodes.back().node == last.node) report.nodes.pop_back();
    report.nodes.push_back(std::move(last));
  }

  Home home_;
  M& machine_;
};

}  // namespace hull
