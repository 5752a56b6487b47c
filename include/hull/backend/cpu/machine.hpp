// SPDX-License-Identifier: Apache-2.0
// The CPU as a machine for propagation: every step in host memory, loops over all cores.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include <hull/backend/cpu/alpha.hpp>
#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/free.hpp>
#include <hull/backend/cpu/known.hpp>
#include <hull/backend/cpu/linear.hpp>
#include <hull/backend/cpu/max.hpp>
#include <hull/backend/cpu/points.hpp>
#include <hull/backend/cpu/relax.hpp>
#include <hull/backend/cpu/roundings.hpp>
#include <hull/backend/cpu/sparse.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/machine.hpp>

namespace hull::cpu {

template <Network Net, class R>
class machine final {
 public:
  using rounding = R;

  /// Borrows the parameters.
  explicit machine(parameters<Net> const& weights) : weights_(&weights) {}

  /// One block for everything that follows. Contents of the old block are lost.
  void reserve(std::size_t bytes) {
    if (bytes > memory_.capacity()) {
      block_.reset();
      block_.reset(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{arena::alignment})));
    }
    memory_ = arena(block_.get(), std::max(bytes, memory_.capacity()));
  }
  [[nodiscard]] arena& memory() { return memory_; }

  /// All rows: there is one rank.
  [[nodiscard]] static row_range share(std::size_t rows) { return {0, rows}; }

  /// Floats of scratch that the backward steps of stage S need.
  template <class S>
  [[nodiscard]] static std::size_t scratch_floats() {
    if constexpr (HeadOf<typename S::head, linear_head>) return block_floats;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      constexpr auto in = S::template operand<0>;
      return conv_packed_floats(in, S::shape, S::head::filter) +
             thread_count() * conv_thread_floats(in, S::shape, S::head::filter);
    }
    return 0;
  }

  /// Floats of scratch that the forward step of stage S needs.
  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch) {
    bool const product = HeadOf<typename S::head, linear_head> && !R::outward && batch >= least_product_batch;
    return product ? block_floats + 2 * batch * S::size : 0;
  }

  /// Sets the input stage to the boxes, rounded outward to floats.
  void load_boxes(network_state<Net>& state, std::span<std::vector<input_range> const* const> boxes) const {
    auto& s = state.stage[0];
    for (std::size_t b = 0; b < state.batch; ++b) {
      for (std::size_t i = 0; i < s.size; ++i) {
        std::size_t const at = b * s.size + i;
        input_range const range = (*boxes[b])[i];
        float const lower = down::from_double(range.lower), upper = up::from_double(range.upper);
        float const centre = static_cast<float>(0.5 * (static_cast<double>(lower) + static_cast<double>(upper)));
        s.lower[at] = lower;
        s.upper[at] = upper;
        s.centre[at] = centre;
        s.spread[at] = std::max(up::sub(upper, centre), up::sub(centre, lower));
        s.origin[at] = centre;
        s.origin_error[at] = 0;
        s.radius[at] = s.spread[at];
        s.lower_slope[at] = s.upper_slope[at] = 1;
        s.lower_shift[at] = s.upper_shift[at] = s.lower_far[at] = s.upper_far[at] = s.error[at] = 0;
      }
    }
    compact_input(s, state.batch);
  }

  /// Interval arithmetic from the operands of stage S to its head.
  template <class S>
  void forward(network_state<Net>& state) {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      if (std::size_t const floats = forward_floats<S>(state.batch); floats > 0) {
        std::size_t const mark = memory_.used();
        linear_forward_batch(dense<S>(), *x[0], y, state.batch, memory_.take<float>(floats));
        memory_.release(mark);
      } else {
        linear_forward<R>(dense<S>(), *x[0], y, state.batch);
      }
    }
    if constexpr (HeadOf<typename S::head, conv_head>) conv_forward<R>(filters<S>(), *x[0], y, state.batch);
    if constexpr (HeadOf<typename S::head, sparse_head>) sparse_forward<S, R>(x, y, state.batch);
    if constexpr (HeadOf<typename S::head, max_head>) max_forward<S>(*x[0], y, state.batch);
  }

  /// Lists the neurons of stage S whose relaxation tighter bounds could tighten. Returns their number.
  template <class S>
  std::size_t find_candidates(network_state<Net>& state, bool all) const {
    auto const& s = state.stage[S::number];
    std::size_t count = 0;
    for (std::size_t b = 0; b < state.batch; ++b) {
      std::size_t const first = count;
      for (std::size_t i = 0; i < S::size; ++i) {
        if (all || gains_from_bounds<S>(*weights_, s, b, i))
          state.candidates[count++] = static_cast<index_t>(b * S::size + i);
      }
      if ((count - first) * 10 <= S::size * 9) continue;
      // almost all: the rest is cheap, and tighter intervals of stable neurons help the layers behind a little
      count = first;
      for (std::size_t i = 0; i < S::size; ++i) state.candidates[count++] = static_cast<index_t>(b * S::size + i);
    }
    return count;
  }

  /// Rows 2p and 2p + 1 for the lower and upper bound of candidate first + p, at the head of stage S.
  template <class S>
  void seed_candidates(network_state<Net> const& state, std::size_t first, row_block const& rows,
                       coefficient_views<Net> const& a) const {
    for (std::size_t r = 0; r < rows.count; ++r) {
      std::size_t const at = state.candidates[first + r / 2];
      rows.box[r] = static_cast<index_t>(at / S::size);
      rows.index[r] = static_cast<index_t>(at % S::size);
      rows.sign[r] = r % 2 == 0 ? 1.0f : -1.0f;
    }
    seed_neurons<S>(state, rows, a);
  }

  /// One row for each candidate first + r, for the bound nearer to 0: the one that is likely to decide the neuron's
  /// sign.
  template <class S>
  void seed_nearer(network_state<Net> const& state, std::size_t first, row_block const& rows,
                   coefficient_views<Net> const& a) const {
    auto const& s = state.stage[S::number];
    for (std::size_t r = 0; r < rows.count; ++r) {
      std::size_t const at = state.candidates[first + r];
      rows.box[r] = static_cast<index_t>(at / S::size);
      rows.index[r] = static_cast<index_t>(at % S::size);
      rows.sign[r] = -s.lower[at] < s.upper[at] ? 1.0f : -1.0f;
    }
    seed_neurons<S>(state, rows, a);
  }

  /// The opposite rows of those candidates of seed_nearer that are not decided after refine_nearer. Returns their
  /// number in rows.count; `all`: of every candidate.
  template <class S>
  void seed_opposite(network_state<Net> const& state, row_block& rows, coefficient_views<Net> const& a,
                     bool all) const {
    auto const& s = state.stage[S::number];
    std::size_t count = 0;
    for (std::size_t r = 0; r < rows.count; ++r) {
      if (!all && !gains_from_bounds<S>(*weights_, s, rows.box[r], rows.index[r])) continue;
      rows.box[count] = rows.box[r];
      rows.index[count] = rows.index[r];
      rows.sign[count] = -rows.sign[r];
      ++count;
    }
    rows.count = count;
    if (count > 0) seed_neurons<S>(state, rows, a);
  }

  /// Intersects the head's intervals of stage S with both bounds of each row. A bound that is NaN changes nothing.
  template <class S>
  void refine_nearer(network_state<Net>& state, row_block const& rows) const {
    auto& s = state.stage[S::number];
    for (std::size_t r = 0; r < rows.count; ++r) {
      std::size_t const at = rows.box[r] * S::size + rows.index[r];
      bool const upright = rows.sign[r] > 0;
      float const lower = down::from_double(upright ? rows.bound[r] : -rows.far_bound[r]);
      float const upper = up::from_double(upright ? rows.far_bound[r] : -rows.bound[r]);
      float const new_lower = lower > s.lower[at] ? lower : s.lower[at];
      float const new_upper = upper < s.upper[at] ? upper : s.upper[at];
      if (!(new_lower <= new_upper)) continue;  // rounding under `Nearest`; impossible under `Outward`
      s.lower[at] = new_lower;
      s.upper[at] = new_upper;
    }
  }

  /// Rows for the neurons of the head of stage S that box, index and sign name.
  template <class S>
  void seed_neurons(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    auto const& s = state.stage[S::number];
    // seeds are the weights themselves (one rounding if those are rounded); additions by other consumers round them
    std::size_t const own = S::input_count == 1 ? additions<S>() : 0;
    double const seed_error = gamma(operand_additions<S>() - own + 2, unit_float);
    for (std::size_t r = 0; r < rows.count; ++r) {
      std::size_t const at = rows.box[r] * S::size + rows.index[r];
      rows.value[r] = rows.sign[r] * s.origin[at];
      rows.slack[r] = R::outward ? s.origin_error[at] + seed_error * s.radius[at] : 0;
      if (rows.far_value != nullptr) rows.far_value[r] = rows.value[r];
    }
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      linear_seed(dense<S>(), rows, *x[0], out[0]);
    } else {
      clear(rows.count, x, out, [] {
        overwrite_flags<S> all;
        all.fill(true);
        return all;
      }());
      if constexpr (HeadOf<typename S::head, conv_head>) conv_seed(filters<S>(), rows, *x[0], out[0]);
      if constexpr (HeadOf<typename S::head, sparse_head>) sparse_seed<S>(rows, x, out);
    }
  }

  /// Rows for specification forms at the output of the last stage (and at the input, for terms over X).
  void seed_forms(network_state<Net> const& state, std::span<row_form const> forms, row_block const& rows,
                  coefficient_views<Net> const& a) const {
    constexpr std::size_t last = stage_count<Net> - 1;
    constexpr double least_double = std::numeric_limits<double>::min();
    for (std::size_t k : {last, std::size_t{0}}) {
      if (a[k] != nullptr) std::fill_n(a[k], rows.count * state.stage[k].live_count, 0.0f);
    }
    for (std::size_t r = 0; r < rows.count; ++r) {
      linear_constraint const& form = *forms[r].form;
      rows.box[r] = forms[r].box;
      rows.index[r] = static_cast<index_t>(r);
      rows.sign[r] = 1;
      double value = form.constant, magnitude = std::fabs(form.constant), slack = 0;
      auto const add = [&](std::size_t k, std::size_t additions, std::vector<term> const& terms) {
        auto const& s = state.stage[k];
        double const later = gamma(additions, unit_float);  // by the consumers of the stage
        for (term const& t : terms) {
          std::size_t const at = rows.box[r] * s.size + t.index;
          double const centre = s.centre[at], part = t.coefficient * centre;
          value += part;
          magnitude += std::fabs(part);
          if (std::fabs(part) < least_double && t.coefficient != 0 && centre != 0) slack += least_double;  // underflow
          if (s.slot[t.index] == stage_state::dead) continue;  // the output is its centre
          float const rounded = static_cast<float>(t.coefficient);
          float& coefficient = a[k][r * s.live_count + s.slot[t.index]];
          bool const first = coefficient == 0;  // else the element is named twice, and the addition rounds
          coefficient += rounded;
          double const doubt = std::fabs(t.coefficient - rounded) + later * std::fabs(rounded) +
                               (first ? 0 : unit_float * std::fabs(coefficient));
          slack += doubt * s.spread[at];
        }
      };
      add(last, 0, form.outputs);
      add(0, all_additions<Net, 0>(), form.inputs);
      std::size_t const terms = form.outputs.size() + form.inputs.size();
      rows.value[r] = value;
      if (rows.far_value != nullptr) rows.far_value[r] = value;
      rows.slack[r] = R::outward ? 1.001 * (slack + gamma_sum(2 * terms) * magnitude) : 0;
    }
  }

  /// Bounds rows at the output of the last stage (and at the input, for terms over X) by the intervals there.
  void bound_by_intervals(network_state<Net> const& state, row_block const& rows,
                          coefficient_views<Net> const& a) const {
    constexpr std::size_t last = stage_count<Net> - 1;
    for (std::size_t r = 0; r < rows.count; ++r) {
      double distance = 0;
      std::size_t terms = 0;
      for (std::size_t k = 0; k <= last; k += std::max<std::size_t>(1, last)) {
        auto const& s = state.stage[k];
        if (a[k] == nullptr) continue;
        for (std::size_t c = 0; c < s.live_count; ++c) {
          distance +=
              static_cast<double>(std::fabs(a[k][r * s.live_count + c])) * s.spread[rows.box[r] * s.size + s.live[c]];
        }
        terms += s.live_count;
      }
      if constexpr (R::outward) distance *= 1 + gamma_sum(terms);
      rows.bound[r] = down::sub(down::sub(rows.value[r], rows.slack[r]), distance);
    }
  }

  /// Takes rows from the output of stage S to its head; at the input, rows.bound is then their bound.
  template <class S>
  void relax_rows(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    cpu::relax_rows<R, S::number == 0>(rows, state.stage[S::number], a[S::number]);
  }

  /// Takes rows from the head of stage S to the outputs of its operands.
  template <class S>
  void backward(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                overwrite_flags<S> const& overwrite, float* scratch) const {
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      linear_backward(dense<S>(), rows.count, y, a[S::number], *x[0], out[0], overwrite[0], scratch);
    } else {
      clear(rows.count, x, out, overwrite);
      if constexpr (HeadOf<typename S::head, conv_head>) {
        conv_backward(filters<S>(), rows.count, y, a[S::number], *x[0], out[0], scratch);
      }
      if constexpr (HeadOf<typename S::head, sparse_head>) sparse_backward<S>(rows.count, y, a[S::number], x, out);
      if constexpr (HeadOf<typename S::head, max_head>) max_backward(rows, y, a[S::number], *x[0], out[0]);
    }
  }

  /// Gives the bounds of rows to the head's intervals of stage S: intersects, or replaces if not `intersect`.
  /// A bound that is NaN changes nothing.
  template <class S>
  void refine(network_state<Net>& state, row_block const& rows, bool intersect) const {
    auto& s = state.stage[S::number];
    for (std::size_t r = 0; r + 1 < rows.count; r += 2) {
      std::size_t const at = rows.box[r] * S::size + rows.index[r];
      float const lower = down::from_double(rows.bound[r]), upper = up::from_double(-rows.bound[r + 1]);
      bool const replace = !intersect && std::isfinite(lower) && std::isfinite(upper);
      float const new_lower = replace || lower > s.lower[at] ? lower : s.lower[at];
      float const new_upper = replace || upper < s.upper[at] ? upper : s.upper[at];
      if (!(new_lower <= new_upper)) continue;  // rounding under `Nearest`; impossible under `Outward`
      s.lower[at] = new_lower;
      s.upper[at] = new_upper;
    }
  }

  // Optimised rows (propagate/alpha.hpp), for a batch of one box.

  /// Floats of scratch that points<S> needs.
  template <class S>
  [[nodiscard]] static std::size_t point_floats() {
    if constexpr (HeadOf<typename S::head, linear_head>) return block_floats;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      constexpr auto in = S::template operand<0>;
      return conv_point_packed_floats(in, S::shape, S::head::filter) +
             thread_count() * conv_point_thread_floats(in, S::shape, S::head::filter);
    }
    return 0;
  }

  /// Whether tighter bounds of neuron i could tighten its relaxation.
  template <class S>
  [[nodiscard]] bool gains(network_state<Net> const& state, std::size_t i) const {
    return gains_from_bounds<S>(*weights_, state.stage[S::number], 0, i);
  }

  /// Free columns of stage S, after relax<S>.
  template <class S>
  void collect_free(network_state<Net> const& state, free_columns& f, std::size_t offset) const {
    find_free<S, R>(*weights_, state.stage[S::number], f, offset, roundings<S>(), [&](std::size_t i) {
      if constexpr (HeadOf<typename S::head, linear_head>) return dense<S>().bias[i];
      if constexpr (HeadOf<typename S::head, conv_head>) return filters<S>().bias[i / filters<S>().positions()];
      return 0.0f;
    });
  }

  /// relax_rows with parameters: from a[S], which is kept, to `moved`, both [rows, live].
  template <class S>
  void relax_free_rows(network_state<Net> const& state, free_columns const& f, row_block const& rows,
                       free_rows const& parameters, coefficient_views<Net> const& a, float* moved) const {
    auto const& s = state.stage[S::number];
    if constexpr (hull::detail::has_kink<S>()) {
      cpu::relax_free_rows<R>(rows, s, f, parameters, a[S::number], moved);
    } else {
      std::copy_n(a[S::number], rows.count * s.live_count, moved);
      cpu::relax_rows<R, false>(rows, s, moved);
    }
  }

  /// Deviations of the head of stage S from those of its operands.
  template <class S>
  void points(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& d, float* head,
              float* scratch) const {
    auto const& y = state.stage[S::number];
    auto const x = sources<S>(state);
    auto const in = targets<S>(d);
    if constexpr (HeadOf<typename S::head, linear_head>)
      linear_points(dense<S>(), rows.count, *x[0], in[0], y, head, scratch);
    if constexpr (HeadOf<typename S::head, conv_head>)
      conv_points(filters<S>(), rows.count, *x[0], in[0], y, head, scratch);
    if constexpr (HeadOf<typename S::head, sparse_head>) sparse_points<S>(rows.count, x, in, y, head);
    if constexpr (HeadOf<typename S::head, max_head>) max_points(rows, *x[0], in[0], y, head);
  }

  /// Coefficients of the input become the deviation of each row's minimising corner.
  void minimise(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    minimise_rows(rows, state.stage[0], a[0]);
  }

  /// Deviations of the outputs of stage S from those of its head; parameters climb.
  template <class S>
  void climb(network_state<Net> const& state, free_columns const& f, row_block const& rows, free_rows const& parameters,
             adam_step const& adam, coefficient_views<Net> const& a, float* head) const {
    auto const& s = state.stage[S::number];
    if constexpr (hull::detail::has_kink<S>()) climb_rows(rows, s, f, parameters, adam, a[S::number], head);
    if constexpr (!hull::detail::has_kink<S>()) follow_rows(rows, s, a[S::number], head);
  }

  /// Intersects the intervals of the head of stage S with known ones, [b] lists; null: nothing known.
  template <class S>
  void narrow(network_state<Net>& state, std::span<float const* const> known, std::size_t offset) const {
    narrow_head(state.stage[S::number], known, offset);
  }

  /// Copies the intervals of the head of stage S for box b to such a list.
  template <class S>
  void keep(network_state<Net> const& state, std::size_t b, float* known) const {
    keep_head(state.stage[S::number], b, known);
  }

  /// Threads that may each drive a machine of their own at the same time.
  [[nodiscard]] static std::size_t workers() { return thread_count(); }

  /// Calls body(i, worker) for i = 0 .. count - 1 from those threads. `body` may throw; all calls end before it
  /// returns.
  template <class Body>
  static void side_by_side(std::size_t count, Body&& body) {
    parallel_tasks(count, std::forward<Body>(body));
  }

  /// Lines, outputs and live columns of stage S from the intervals of its head.
  template <class S>
  void relax(network_state<Net>& state) const {
    relax_stage<S, R>(*weights_, sources<S>(state), state.stage[S::number], state.batch, roundings<S>(), rounded<S>());
  }

 private:
  /// Whether the coefficients of stage S's head are floats near the exact ones.
  template <class S>
  [[nodiscard]] bool rounded() const {
    if constexpr (HeadOf<typename S::head, linear_head> || HeadOf<typename S::head, conv_head>) {
      return weights_->template rounded<S::info.head>();
    } else if constexpr (HeadOf<typename S::head, sparse_head>) {
      return !S::head::exact;
    } else {
      return false;
    }
  }

  template <class S>
  static operands<S, stage_state const*> sources(network_state<Net> const& state) {
    operands<S, stage_state const*> x{};
    S::for_each_operand([&]<std::size_t I> { x[I] = &state.stage[S::template input<I>]; });
    return x;
  }

  template <class S>
  static operands<S, float*> targets(coefficient_views<Net> const& a) {
    operands<S, float*> out{};
    S::for_each_operand([&]<std::size_t I> { out[I] = a[S::template input<I>]; });
    return out;
  }

  template <std::size_t N>
  static void clear(std::size_t rows, std::array<stage_state const*, N> const& x, std::array<float*, N> const& out,
                    std::array<bool, N> const& overwrite) {
    for (std::size_t i = 0; i < N; ++i) {
      if (overwrite[i]) std::fill_n(out[i], rows * x[i]->live_count, 0.0f);
    }
  }

  static void compact_input(stage_state& s, std::size_t batch) {
    compact(s, batch);
    for (std::size_t b = 0; b < batch; ++b) s.floor[b] = 0;
  }

  template <class S>
  [[nodiscard]] linear_weights dense() const {
    constexpr std::size_t at = S::info.head;
    return {weights_->template tensor<at, 0>(), weights_->template tensor<at, 1>(), S::size,
            S::template operand<0>.size(), weights_->template rounded<at>()};
  }

  template <class S>
  [[nodiscard]] conv_weights filters() const {
    constexpr std::size_t at = S::info.head;
    return {weights_->template tensor<at, 0>(),
            weights_->template tensor<at, 1>(),
            S::head::filter,
            S::template operand<0>,
            S::shape,
            weights_->template rounded<at>()};
  }

  struct release {
    void operator()(std::byte* block) const { ::operator delete (block, std::align_val_t{arena::alignment}); }
  };

  parameters<Net> const* weights_;
  std::unique_ptr<std::byte, release> block_;
  arena memory_;
};

}  // namespace hull::cpu
