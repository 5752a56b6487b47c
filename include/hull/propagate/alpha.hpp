// SPDX-License-Identifier: Apache-2.0
// Rows with parameters of their own, each optimised for its own bound: alpha-CROWN (Xu et al. 2021) and, with splits,
// beta-CROWN (Wang et al. 2021). New here: the row, not the network, is what is optimised. The bounds of earlier stages
// are final when a stage's turn comes, so a row's bound depends on no other row: rows run in chunks of any size with
// results equal to the bit, and memory is one chunk. Gradients are written out by hand (backend/cpu/alpha.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/net/cost.hpp>
#include <hull/propagate/climbing_chunk.hpp>
#include <hull/propagate/climbing_steps.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/ended_rows.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/split_lines.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/interval.hpp>

namespace hull {

/// Works on a propagation's state for one box, in the machine's memory.
template <Network Net, class M>
class row_climber final : climbing_steps<Net, M> {
  using base = climbing_steps<Net, M>;
  using base::end_;
  using base::free_;
  using base::machine_;
  using base::numbers_;
  using base::rows_;
  using base::state_;

 public:
  using base::last;

  /// Borrows all three; chunks are carved from `rows`. `tasks`: most that climb together, over all ranks.
  row_climber(M& machine, network_state<Net>& state, arena& rows, std::size_t tasks)
      : base(machine, state, rows), tasks_(tasks) {}

  void stop_at(deadline const& end) { end_ = end; }

  /// Told of every hidden row whose parameters gave the bound that its neuron keeps: node of the expression, element,
  /// side, parameters of the stages before it.
  using row_witness = std::function<void(std::size_t node, std::size_t element, bool upper, std::span<float const>)>;
  void tell(row_witness witness) { witness_ = std::move(witness); }

  /// Room for the free columns.
  void carve(arena& memory) {
    free_ = {};
    free_.carve(memory);
  }

  /// Free columns of stage S, after its relaxation; stages in order.
  template <class S>
  void collect() {
    auto& f = free_.stage[S::number];
    auto const& before = free_.stage[S::number - 1];
    if constexpr (detail::has_kink<S>()) {
      machine_->template collect_free<S>(*state_, f, before.offset + before.count);
    } else {
      f.offset = before.offset + before.count;
    }
    f.present = machine_->any(f.count > 0, end_);
    numbers_.note(S::number, machine_->template column_counts_of<S>(f.count), f.offset);
  }

  [[nodiscard]] free_state<Net> const& free() const { return free_; }

  /// How ranks call parameters.
  [[nodiscard]] parameter_numbers<Net> const& numbers() const { return numbers_; }

  /// Room for the parameters of a specification row, the same on all ranks that work on the same rows.
  [[nodiscard]] std::size_t width() const { return numbers_.width(free_.width(last)); }

  /// CROWN's own parameters. Writes up to [width].
  void start(float* alpha) const {
    for (auto const& f : free_.stage) {
      if (f.count > 0) machine_->read(alpha + f.offset, f.start, f.count);
    }
  }

  /// Tightens the intervals of the neurons of stage S whose relaxation gains from it; `all`: of all its neurons.
  template <class S>
  void tighten(ascent const& how, bool all) {
    constexpr std::size_t K = S::number;
    if (!free_.chooses(K - 1)) return;  // CROWN has no choice either
    std::size_t const neurons = machine_->template list_gaining<S>(*state_, all);
    auto const layout = plan_coefficients<Net>(K, false, false);
    row_range const mine = machine_->share(neurons);
    std::size_t const most = machine_->most(neurons);
    std::size_t const chunk = std::max<std::size_t>(1, this->chunk_rows(layout, K, K - 1, 0, true, most_climbing) / 2);
    for (std::size_t done = 0; machine_->any(done < most, end_); done += chunk) {
      std::size_t const first = std::min(mine.first + done, mine.last);
      tighten_chunk<S>(layout, how, all, {first, std::min(first + chunk, mine.last)});
    }
    machine_->template gather_candidates<S>(*state_, neurons, *rows_);
  }

  /// Optimises every task, at least evaluates it (how.steps = 0). `ended(ended_rows)` sees rows at their last
  /// evaluation, which may be the same for many. Tasks share the box, nothing else. Cost per step: two backward passes.
  template <class Ended>
  void climb(std::span<form_task> tasks, ascent const& how, Ended&& ended) {
    bool with_input = false;
    std::size_t splits = 0;
    for (auto const& task : tasks) {
      with_input = with_input || !task.form->inputs.empty();
      splits = std::max(splits, task.splits.size());
    }
    auto const layout = plan_coefficients<Net>(last, true, with_input);
    std::size_t const chunk = this->chunk_rows(layout, row_block::anywhere, last, splits, how.steps > 0, tasks_);
    for (std::size_t done = 0; machine_->any(done < tasks.size(), end_); done += chunk) {
      std::size_t const first = std::min(done, tasks.size());
      auto const some = tasks.subspan(first, std::min(chunk, tasks.size() - first));
      climb_chunk(layout, how, some, splits, first, ended);
    }
  }

  /// What the splits of the tasks say about the input: for every split of each task a linear form that is at most zero
  /// in the domain. `use(split_line, view)`; view is the form as a row. A form is a lower bound under the splits before
  /// it and CROWN's parameters. Only good for proposals: rounding is ignored. Cost: one row for each split.
  template <class Use>
  void split_rows(std::span<form_task const> tasks, Use&& use) {
    std::size_t splits = 0;
    for (auto const& task : tasks) splits = std::max(splits, task.splits.size());
    for_each_stage<1, last + 1>([&]<std::size_t K> {
      std::vector<std::array<std::size_t, 2>> found;  // task and split
      for (std::size_t i = 0; i < tasks.size() && free_.stage[K].present; ++i) {
        for (std::size_t q = 0; q < tasks[i].splits.size(); ++q) {
          if (numbers_.belongs(tasks[i].splits[q].parameter, K, free_.stage[K])) found.push_back({i, q});
        }
      }
      auto const layout = plan_coefficients<Net>(K, false, false);
      std::size_t const chunk = this->chunk_rows(layout, row_block::anywhere, K - 1, splits, false, tasks_);
      for (std::size_t done = 0; machine_->any(done < found.size(), end_); done += chunk) {
        std::size_t const first = std::min(done, found.size());
        split_row_chunk<K>(layout, tasks, splits,
                           std::span(found).subspan(first, std::min(chunk, found.size() - first)), use);
      }
    });
  }

  /// Derivatives of the bound of one task by its parameters [width] and multipliers [splits]: what climb follows.
  void gradient(form_task const& task, std::span<float> by_alpha, std::span<float> by_beta) {
    auto const layout = plan_coefficients<Net>(last, true, !task.form->inputs.empty());
    std::size_t const mark = rows_->used();
    auto work = this->carve_chunk(layout, row_block::anywhere, last, 1, task.splits.size(), true, false);
    auto const& p = work.parameters;
    load_tasks(*machine_, work, std::span(&task, 1), numbers_);
    row_form const form{0, task.form};
    machine_->seed_forms(*state_, {&form, 1}, work.rows, work.a);
    this->template evaluate<last>(layout, work);
    this->template update<last>(layout, work, ascent{}, 0);
    float const share = 1 - adam_step::keep_mean;  // of the first gradient in the first mean
    machine_->read(by_alpha.data(), p.alpha_mean, p.width);
    machine_->read(by_beta.data(), p.beta_mean, p.splits);
    for (float& g : by_alpha) g /= share;
    for (float& g : by_beta) g /= share;
    rows_->release(mark);
  }

 private:
  using workspace = typename base::workspace;

  /// The step after which the host looks: a machine that should not wait for it takes several at once. Rows that end in
  /// between stay as they are, so results do not depend on this. Ranks take the same steps, so their number of `rows`
  /// counts only where one is alone; else the most that there can be. K: the stage at which rows start.
  template <std::size_t K>
  [[nodiscard]] std::size_t pause_after(std::size_t step, std::size_t last_step, std::size_t rows,
                                        std::size_t most) const {
    bool const alone = machine_->ranks() == 1 && machine_->places() == 1;
    std::size_t const work = std::max<std::size_t>(1, (alone ? rows : most) * multiplications<Net>(K));
    std::size_t const several = std::clamp<std::size_t>(M::work_at_once / work, 1, M::steps_at_once);
    return std::min(last_step, step + several - 1);
  }

  /// Rows 2p and 2p + 1: lower and upper bound of candidate p. Both go on until the neuron is settled.
  template <class S>
  void tighten_chunk(coefficient_plan<Net> const& layout, ascent const& how, bool all, row_range candidates) {
    constexpr std::size_t K = S::number;
    std::size_t const mark = rows_->used();
    std::size_t const count = 2 * candidates.size();
    auto work = this->carve_chunk(layout, K, K - 1, count, 0, true, static_cast<bool>(witness_));
    auto& p = work.parameters;
    p.progress = rows_->template take<row_progress>(count);
    machine_->write(p.progress, work.progress.data(), count);
    machine_->template name_rows<S>(*state_, candidates.first, work.rows);
    this->start_chunk(work, K - 1);
    std::vector<ended_row> found(witness_ ? count : 0);  // [number of the row]
    for (std::size_t step = 0; machine_->any(work.rows.count > 0, end_); ++step) {
      std::size_t const pause = pause_after<K>(step, how.steps, work.rows.count, most_climbing);
      for (;; ++step) {
        machine_->template seed_neurons<S>(*state_, work.rows, work.a);
        this->template evaluate<K - 1>(layout, work);
        machine_->template refine<S>(*state_, work.rows, true);
        if (!all) machine_->template mark_gaining<S>(*state_, work.rows);
        machine_->note_pairs(work.rows, p, how.patience, !all);
        if (step == pause) break;
        this->template update<K - 1>(layout, work, how, step);
      }
      machine_->read(work.progress.data(), p.progress, work.rows.count);
      if (witness_) note_ended(work, step == how.steps, found);
      if (step == how.steps) break;
      this->template update<K - 1>(layout, work, how, step);
      machine_->move_rows(work.rows, p, work.compact());
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
      auto const& s = state_->stage[K];
      auto const& [progress, alpha] = found[i];
      index_t n = 0;
      interval<float> box{};
      machine_->read(&n, state_->candidates + candidates.first + i / 2, 1);
      machine_->read(&box.lower, s.lower + n, 1);
      machine_->read(&box.upper, s.upper + n, 1);
      bool const upper = i % 2 == 1;
      // this side decides nothing any more
      if (progress.done == row_progress::settled && (upper ? box.lower >= 0 : box.upper <= 0)) continue;
      bool const used = upper ? -progress.best <= box.upper : progress.best >= box.lower;
      if (used) witness_(S::info.pass ? graph<Net>::template inputs<S::info.head>[0] : S::info.head, n, upper, alpha);
    }
    rows_->release(mark);
  }

  /// The rows that have ended, or all.
  void note_ended(workspace const& work, bool all, std::vector<ended_row>& found) const {
    auto const& p = work.parameters;
    std::vector<index_t> over;
    for (std::size_t r = 0; r < work.rows.count; ++r) {
      if (all || work.progress[r].done != 0) over.push_back(static_cast<index_t>(r));
    }
    machine_->template read_rows<float>(p.alpha_best, p.width, over, [&](std::size_t i, float const* row) {
      found[work.id[over[i]]] = {work.progress[over[i]], {row, row + p.width}};
    });
  }

  template <std::size_t K, class Use>
  void split_row_chunk(coefficient_plan<Net> const& layout, std::span<form_task const> tasks, std::size_t splits,
                       std::span<std::array<std::size_t, 2> const> those, Use& use) {
    using S = stage<Net, K>;
    std::size_t const mark = rows_->used();
    auto work = this->carve_chunk(layout, row_block::anywhere, K - 1, those.size(), splits, false, false);
    this->start_chunk(work, K - 1);
    host_rows all(those.size(), work.parameters);
    split_lines<Net> lines(*machine_, *state_, free_, K);
    for (auto const [task, q] : those) {
      all.set_splits(lines.size(), tasks[task].splits, numbers_, nullptr, 0);
      lines.add(tasks[task].splits[q], numbers_.here(tasks[task].splits[q].parameter));
    }
    if (numbers_.divides(K)) lines.add_parts(*machine_);
    lines.send(*machine_, work.rows);
    all.send(*machine_, work.parameters);
    machine_->template seed_neurons<S>(*state_, work.rows, work.a);
    this->template evaluate<K - 1>(layout, work);
    double const* const found = machine_->bounds(work.rows);
    std::vector<double> const bounds(found, found + those.size());  // views may read over it
    for (std::size_t r = 0; r < those.size(); ++r) {
      row_view<Net, M> const view(*machine_, *state_, work.a, r);
      auto const line = lines.of(r, bounds[r], view.coefficients(0));
      if (line.scale > 0) use(those[r][1], line, view);
    }
    rows_->release(mark);
  }

  /// `first`: number of the first of these tasks among those of the caller.
  template <class Ended>
  void climb_chunk(coefficient_plan<Net> const& layout, ascent const& how, std::span<form_task> tasks,
                   std::size_t splits, std::size_t first, Ended&& ended) {
    std::size_t const mark = rows_->used();
    bool const climbs = how.steps > 0;
    auto work = this->carve_chunk(layout, row_block::anywhere, last, tasks.size(), splits, climbs, climbs);
    work.parameters.progress = rows_->template take<row_progress>(tasks.size());
    load_tasks(*machine_, work, std::span<form_task const>(tasks), numbers_);
    std::size_t const steps = free_.chooses(last) ? how.steps : 0;  // without free columns there are no splits either
    std::vector<row_form> forms;
    std::vector<index_t> over;
    std::vector<std::size_t> number;  // of those
    for (std::size_t step = 0; machine_->any(work.rows.count > 0, end_); ++step) {
      forms.clear();
      for (std::size_t r = 0; r < work.rows.count; ++r) forms.push_back({0, tasks[work.id[r]].form});
      std::size_t const pause = pause_after<last>(step, steps, work.rows.count, tasks_);
      for (;; ++step) {
        machine_->seed_forms(*state_, forms, work.rows, work.a);
        this->template evaluate<last>(layout, work);
        machine_->note_bounds(work.rows, work.parameters, how.patience, step == steps);
        if (step == pause) break;
        this->template update<last>(layout, work, how, step);
      }
      machine_->read(work.progress.data(), work.parameters.progress, work.rows.count);
      over.clear();
      number.clear();
      for (std::size_t r = 0; r < work.rows.count; ++r) {
        auto& task = tasks[work.id[r]];
        double const best = work.progress[r].best;
        if (best < std::numeric_limits<double>::infinity()) task.bound = std::max(task.bound, best);
        if (work.progress[r].done == 0) continue;
        over.push_back(static_cast<index_t>(r));
        number.push_back(first + work.id[r]);
      }
      if (climbs) {
        take_back(*machine_, work, tasks, over);
      } else {
        for (index_t const r : over) tasks[work.id[r]].end_at_start(work.parameters.width);
      }
      if (!over.empty()) {
        ended(ended_rows<Net, M>(*machine_, *state_, free_, work.parameters, work.a, over, number));
      }
      if (!machine_->any(over.size() < work.rows.count, end_)) break;
      this->template update<last>(layout, work, how, step);
      machine_->move_rows(work.rows, work.parameters, work.compact());
    }
    rows_->release(mark);
  }

  std::size_t tasks_;
  row_witness witness_;
};

}  // namespace hull
