// SPDX-License-Identifier: Apache-2.0
// Interval bound propagation and CROWN over a batch of boxes; alpha-CROWN over one box.
//
// Sources: IBP, Gowal et al. 2018, section 3; CROWN, Zhang et al. 2018, section 3, in the backward form of Xu et al.
// 2020 (auto_LiRPA), section 3.2. New here: every row is a lower bound (an upper bound is a row with sign -1), and rows
// are kept in centred form (docs/soundness.md), so one vector per stage makes them sound in floating point.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>
#include <hull/propagate/alpha.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/known_heads.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/memory.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// Bounds of one network on one machine. `M` is a Machine (propagate/machine.hpp).
template <Network Net, class M>
class propagation final {
 public:
  static constexpr std::size_t last = stage_count<Net> - 1;

  using sizes = memory_of<Net, M>;

  /// `row_bytes` is the budget for the rows of one chunk, over all ranks, `tasks` how many optimised specification rows
  /// may be in it; results depend on neither by a bit.
  explicit propagation(M& machine, std::size_t row_bytes = default_row_bytes<M>(), std::size_t tasks = most_climbing)
      : machine_(&machine), row_bytes_(row_bytes), tasks_(tasks), climber_(machine, state_, rows_, tasks) {}
  propagation(propagation const&) = delete;  // the climber works on the state
  propagation& operator=(propagation const&) = delete;
  ~propagation() = default;

  /// run() and the bounds of rows throw deadline_passed soon after `end`.
  void stop_at(deadline const& end) {
    end_ = end;
    climber_.stop_at(end);
  }

  /// Whether hidden bounds are the intersection of CROWN's with those of intervals (the default, tighter), or CROWN's
  /// alone, as other tools have them: then digits can be compared.
  void intersect_hidden(bool intersect) { intersect_ = intersect; }

  /// Bounds of all stages over each box. Sound for the exact network under Outward (docs/soundness.md).
  /// Boxes: [b], each with one range per input. Cost: one forward pass, and with `crown` one backward pass per stage
  /// and chunk of unstable neurons; with `alpha_crown`, which takes one box, another two passes per step of `how`.
  ///
  /// `known`: [b] lists as known_heads lays them out (null: none), bounds of heads that hold for the box or one around
  /// it; then fewer neurons need rows.
  void run(std::span<std::vector<input_range> const* const> boxes, hidden_bounds method, ascent const& how = {},
           std::span<float const* const> known = {}) {
    bool const climbs = method == hidden_bounds::alpha_crown;
    expect(!climbs || boxes.size() == 1, "propagation: alpha-CROWN takes one box at a time");
    begin(boxes, method);
    machine_->load_boxes(state_, boxes);
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      machine_->poll(end_);
      forward<K>();
      if constexpr (detail::needs_rows<Net, K>()) {
        if (!known.empty()) machine_->template narrow<S>(state_, known, known_heads<Net>::plan.offset[K]);
        if (method != hidden_bounds::interval) tighten<K>();
        if (climbs) climber_.template tighten<S>(how, detail::feeds_max<Net, K>());
      }
      machine_->template relax<S>(state_);
      if (climbs) climber_.template collect<S>();
    });
  }

  /// run() with `hidden_bounds::interval`, without the code of the other methods: for those who only need this one.
  void run_intervals(std::span<std::vector<input_range> const* const> boxes) {
    begin(boxes, hidden_bounds::interval);
    machine_->load_boxes(state_, boxes);
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      machine_->poll(end_);
      forward<K>();
      machine_->template relax<stage<Net, K>>(state_);
    });
  }

  /// Lower bounds of linear forms over the outputs (and inputs), after run(). Returns one bound per form; a bound that
  /// could not be computed (overflow) is -infinity. Ranks divide the forms.
  [[nodiscard]] std::vector<double> lower_bounds(std::span<row_form const> forms) {
    std::vector<double> bounds(forms.size());
    std::size_t at = machine_->share(forms.size()).first;
    backward(forms, machine_->share(forms.size()), machine_->most(forms.size()),
             [&](row_block const& rows, coefficient_views<Net> const&) {
               double const* const found = machine_->bounds(rows);
               for (std::size_t r = 0; r < rows.count; ++r) bounds[at++] = known_bound(found[r]);
             });
    machine_->gather(bounds.data(), bounds.size());
    return bounds;
  }

  /// The same from the intervals of the outputs alone, without a backward pass.
  [[nodiscard]] std::vector<double> interval_bounds(std::span<row_form const> forms) {
    std::vector<double> bounds;
    bounds.reserve(forms.size());
    bool const with_input = has_input_terms(forms);
    auto const layout = plan_coefficients<Net>(last, true, with_input);
    std::size_t const chunk = chunk_rows<last>(layout, forms.size());
    for (std::size_t first = 0; first < forms.size(); first += chunk) {
      std::size_t const mark = rows_.used();
      auto work = carve<last>(layout, std::min(chunk, forms.size() - first));
      // no step goes back to the input, so its buffer, which may share the outputs' place, holds terms over X or
      // nothing
      if (!with_input && last != 0) work.a[0] = nullptr;
      machine_->seed_forms(state_, forms.subspan(first, work.rows.count), work.rows, work.a);
      machine_->bound_by_intervals(state_, work.rows, work.a);
      double const* const found = machine_->bounds(work.rows);
      for (std::size_t r = 0; r < work.rows.count; ++r) bounds.push_back(known_bound(found[r]));
      rows_.release(mark);
    }
    return bounds;
  }

  /// Runs all forms back to the input in chunks; `finish(rows, coefficients)` sees each chunk with the coefficients of
  /// the input. With boxes of one point the coefficients are the gradient of the form.
  template <class Finish>
  void backward_forms(std::span<row_form const> forms, Finish&& finish) {
    backward(forms, {0, forms.size()}, forms.size(), finish);
  }

  /// Optimises rows, after run() with `alpha_crown`.
  [[nodiscard]] row_climber<Net, M>& climber() { return climber_; }

  /// Lower bounds of linear forms with parameters optimised for each, after run() with `alpha_crown`. As lower_bounds.
  [[nodiscard]] std::vector<double> climbed_bounds(std::span<row_form const> forms, ascent const& how = {}) {
    std::size_t const width = climber_.width();
    std::vector<double> bounds(forms.size());
    std::vector<float> alpha(width);
    climber_.start(alpha.data());
    std::size_t const group = 64;  // alphas of a group are kept
    row_range const mine = machine_->share(forms.size());
    std::size_t const most = machine_->most(forms.size());
    std::vector<float> alphas(std::min(group, most) * width);
    for (std::size_t done = 0; done < most; done += group) {
      row_range const now = part(mine, done, group);
      std::vector<form_task> tasks(now.size());
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        tasks[i].form = forms[now.first + i].form;
        tasks[i].alpha = alphas.data() + i * width;
        std::copy(alpha.begin(), alpha.end(), tasks[i].alpha);
      }
      climber_.climb(tasks, how, [](auto const&) {});
      for (std::size_t i = 0; i < tasks.size(); ++i) bounds[now.first + i] = tasks[i].bound;
    }
    machine_->gather(bounds.data(), bounds.size());
    return bounds;
  }

  /// State after run(), in the machine's memory.
  [[nodiscard]] network_state<Net> const& state() const { return state_; }

  /// Bytes of the machine's memory that a batch of `boxes` takes, rows included: neither more nor less.
  [[nodiscard]] std::size_t plan(std::size_t boxes, hidden_bounds method = hidden_bounds::crown) const {
    return sizes::total(request(boxes, method));
  }

 private:
  [[nodiscard]] memory_request request(std::size_t boxes, hidden_bounds method) const {
    return {method, boxes, row_bytes_, intersect_, machine_->parts(), M::threads(), tasks_};
  }

  /// Checks the boxes and makes room: for their state, for free columns, and for rows.
  void begin(std::span<std::vector<input_range> const* const> boxes, hidden_bounds method) {
    for (auto const* box : boxes) {
      expect(box->size() == graph<Net>::input_size, "propagation: a box has " + std::to_string(box->size()) +
                                                        " ranges, the network has " +
                                                        std::to_string(graph<Net>::input_size) + " inputs");
    }
    auto const ask = request(boxes.size(), method);
    machine_->reserve(sizes::total(ask));
    arena& all = machine_->memory();
    all.release(0);
    state_.carve(all, boxes.size());
    if (method == hidden_bounds::alpha_crown) climber_.carve(all);
    std::size_t const bytes = sizes::region(ask);
    rows_ = arena(all.take<std::byte>(bytes), bytes);
  }

  template <std::size_t K>
  void forward() {
    using S = stage<Net, K>;
    std::size_t const mark = rows_.used();
    machine_->template forward<S>(state_, rows_.take<float>(M::template forward_floats<S>(state_.batch, M::threads())));
    rows_.release(mark);
  }

  static bool has_input_terms(std::span<row_form const> forms) {
    return std::any_of(forms.begin(), forms.end(), [](row_form const& f) { return !f.form->inputs.empty(); });
  }

  /// A bound that is NaN says nothing; nor does +infinity, which only overflow under `Nearest` can give.
  static double known_bound(double bound) {
    double const infinity = std::numeric_limits<double>::infinity();
    return bound < infinity ? bound : -infinity;
  }

  /// The forms `mine`, as many chunks as `most` forms make.
  template <class Finish>
  void backward(std::span<row_form const> forms, row_range mine, std::size_t most, Finish&& finish) {
    bool const with_input = has_input_terms(forms);
    auto const layout = plan_coefficients<Net>(last, true, with_input);
    std::size_t const chunk = chunk_rows<last>(layout, most);
    for (std::size_t done = 0; machine_->any(done < most, end_); done += chunk) {
      row_range const now = part(mine, done, chunk);
      std::size_t const mark = rows_.used();
      auto work = carve<last>(layout, now.size());
      machine_->seed_forms(state_, forms.subspan(now.first, now.size()), work.rows, work.a);
      step_back<last>(layout, work);
      finish_rows(work);
      finish(work.rows, work.a);
      rows_.release(mark);
    }
  }

  /// Rows [done, done + chunk) of `mine`, as far as there are that many.
  static row_range part(row_range mine, std::size_t done, std::size_t chunk) {
    std::size_t const first = std::min(mine.first + done, mine.last);
    return {first, std::min(first + chunk, mine.last)};
  }

  struct workspace {
    row_block rows;
    coefficient_views<Net> a{};
    float* scratch = nullptr;
  };

  template <std::size_t K>
  [[nodiscard]] std::size_t chunk_rows(coefficient_plan<Net> const& layout, std::size_t rows) const {
    constexpr std::size_t group = sizes::row_group;
    std::size_t const room = rows_.capacity() - sizes::fixed(K, M::threads(), state_.batch);
    // ranks that work on the same rows may have different numbers of threads
    return machine_->least(std::min(room / sizes::row(layout.width) / group, (rows + group - 1) / group) * group);
  }

  template <std::size_t K>
  [[nodiscard]] workspace carve(coefficient_plan<Net> const& layout, std::size_t rows) {
    std::size_t const room = (rows + sizes::row_group - 1) / sizes::row_group * sizes::row_group;
    workspace work;
    work.rows.count = rows;
    work.rows.box = rows_.take<index_t>(room);
    work.rows.index = rows_.take<index_t>(room);
    work.rows.sign = rows_.take<float>(room);
    work.rows.value = rows_.take<double>(room);
    work.rows.slack = rows_.take<double>(room);
    work.rows.bound = rows_.take<double>(room);
    work.rows.far_value = rows_.take<double>(room);
    work.rows.far_bound = rows_.take<double>(room);
    float* const base = rows_.take<float>(room * layout.width);
    for (std::size_t k = 0; k <= K; ++k) {
      if (layout.reached(k)) work.a[k] = base + room * layout.offset[k];
    }
    work.scratch = rows_.take<float>((sizes::fixed(K, M::threads(), state_.batch) - sizes::alignments) / sizeof(float));
    return work;
  }

  /// Rows for the unstable neurons of stage K, in chunks, then its tighter intervals. Ranks divide the neurons.
  template <std::size_t K>
  void tighten() {
    using S = stage<Net, K>;
    std::size_t const candidates = machine_->template find_candidates<S>(state_, detail::feeds_max<Net, K>());
    constexpr auto layout = plan_coefficients<Net, M>(K, false, false);
    if (intersect_) {
      tighten_nearer<K>(layout, candidates);
    } else {
      tighten_both<K>(layout, candidates);
    }
    machine_->template gather_candidates<S>(state_, candidates, rows_);
  }

  template <std::size_t K>
  void tighten_both(coefficient_plan<Net> const& layout, std::size_t candidates) {
    using S = stage<Net, K>;
    row_range const mine = machine_->share(candidates);
    std::size_t const most = machine_->most(candidates), chunk = chunk_rows<K>(layout, 2 * most) / 2;
    for (std::size_t done = 0; machine_->any(done < most, end_); done += chunk) {
      row_range const now = part(mine, done, chunk);
      std::size_t const mark = rows_.used();
      auto work = carve<K>(layout, 2 * now.size());
      work.rows.start = K;
      machine_->template seed_candidates<S>(state_, now.first, work.rows, work.a);
      for_each_stage_backward<K - 1>([&]<std::size_t J> { step<J>(layout, work); });
      finish_rows(work);
      machine_->template refine<S>(state_, work.rows, false);
      rows_.release(mark);
    }
  }

  /// The same with half the rows: first one row for each neuron, for the bound nearer to 0, whose coefficients bound
  /// the neuron from the other side too, a little looser; then the other row, for the neurons that are still unstable.
  template <std::size_t K>
  void tighten_nearer(coefficient_plan<Net> const& layout, std::size_t candidates) {
    using S = stage<Net, K>;
    row_range const mine = machine_->share(candidates);
    std::size_t const most = machine_->most(candidates), chunk = chunk_rows<K>(layout, most);
    for (std::size_t done = 0; machine_->any(done < most, end_); done += chunk) {
      row_range const now = part(mine, done, chunk);
      std::size_t const mark = rows_.used();
      auto work = carve<K>(layout, now.size());
      work.rows.start = K;
      machine_->template seed_nearer<S>(state_, now.first, work.rows, work.a);
      for (bool const opposite : {false, true}) {
        if (opposite) machine_->template seed_opposite<S>(state_, work.rows, work.a, detail::feeds_max<Net, K>());
        if (!machine_->any(work.rows.count > 0, end_)) break;
        for_each_stage_backward<K - 1>([&]<std::size_t J> { step<J>(layout, work); });
        finish_rows(work);
        machine_->template refine_nearer<S>(state_, work.rows);
      }
      rows_.release(mark);
    }
  }

  /// Takes rows from the output of stage K to the outputs of its operands, and so on to the input.
  template <std::size_t K>
  void step_back(coefficient_plan<Net> const& layout, workspace& work) {
    for_each_stage_backward<K>([&]<std::size_t J> { step<J>(layout, work); });
  }

  template <std::size_t J>
  void step(coefficient_plan<Net> const& layout, workspace& work) {
    using S = stage<Net, J>;
    if (!layout.reached(J)) return;
    machine_->poll(end_);
    machine_->template step_back<S>(state_, work.rows, work.a, overwrites<S>(layout), work.scratch);
  }

  /// At the input, the bound by intervals is the bound of the row.
  void finish_rows(workspace& work) { machine_->template relax_rows<stage<Net, 0>>(state_, work.rows, work.a); }

  M* machine_;
  std::size_t row_bytes_, tasks_;
  deadline end_;
  bool intersect_ = true;
  network_state<Net> state_;
  arena rows_;  // part of the machine's memory, from which chunks are carved
  row_climber<Net, M> climber_;
};

}  // namespace hull
