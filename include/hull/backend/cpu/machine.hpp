// SPDX-License-Identifier: Apache-2.0
// The CPU as a machine for propagation: every step in host memory, loops over all cores.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <hull/backend/cpu/alpha.hpp>
#include <hull/backend/cpu/boxes.hpp>
#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/forms.hpp>
#include <hull/backend/cpu/free.hpp>
#include <hull/backend/cpu/host.hpp>
#include <hull/backend/cpu/known.hpp>
#include <hull/backend/cpu/linear.hpp>
#include <hull/backend/cpu/max.hpp>
#include <hull/backend/cpu/neurons.hpp>
#include <hull/backend/cpu/points.hpp>
#include <hull/backend/cpu/relax.hpp>
#include <hull/backend/cpu/sparse.hpp>
#include <hull/backend/cpu/step_memory.hpp>
#include <hull/backend/operands.hpp>
#include <hull/backend/roundings.hpp>
#include <hull/net/cost.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/shard/member.hpp>

namespace hull::cpu {

/// `Member`: what this rank holds of the network and does with the others (shard/member.hpp); by default it is alone.
template <Network Net, class R, class Member = lone_member<Net>>
class machine : public host<Member>, public step_memory<R> {
 protected:
  using host<Member>::member_;

 public:
  using rounding = R;
  using rounds = rounding_counts<order>;

  /// Domains that branch and bound splits in one round: weights are packed once for all rows of a chunk, and where each
  /// domain takes long, many would only let the attack on what is found wait.
  static constexpr std::size_t domains_at_once =
      std::clamp<std::size_t>((std::size_t{1} << 28) / (multiplications<Net>() + 1), 64, 256);

  /// Borrows what the member stands for.
  explicit machine(Member member) : host<Member>(member) {}

  /// Sets the input stage to the boxes, rounded outward to floats.
  void load_boxes(network_state<Net>& state, std::span<std::vector<input_range> const* const> boxes) const {
    cpu::load_boxes(state.stage[0], boxes);
  }

  /// Interval arithmetic from the operands of stage S to its head.
  template <class S>
  void forward(network_state<Net>& state, [[maybe_unused]] float* scratch) const {
    auto& y = state.stage[S::number];
    auto const x = sources<S>(state);
    if constexpr (HeadOf<typename S::head, linear_head> || HeadOf<typename S::head, conv_head>) {
      if (step_memory<R>::takes_product(state.batch)) {
        if constexpr (HeadOf<typename S::head, linear_head>) {
          linear_forward_batch(dense<S>(), each_block<S>(), *x[0], y, state.batch, scratch);
        } else {
          with_filters<S>([&](conv_weights const& w) { conv_forward_batch(w, *x[0], y, state.batch, scratch); });
        }
        return;
      }
      auto* const sums = reinterpret_cast<affine_sums*>(scratch);
      add_up<S>(state, sums);
      store<S>(state, sums, affine_terms<S>());
    }
    if constexpr (HeadOf<typename S::head, sparse_head>) sparse_forward<S, R>(x, y, state.batch);
    if constexpr (HeadOf<typename S::head, max_head>) max_forward<S>(*x[0], y, state.batch);
  }

  /// Lists the neurons of stage S whose relaxation tighter bounds could tighten. Returns their number.
  template <class S>
  std::size_t find_candidates(network_state<Net>& state, bool all) const {
    auto const& s = state.stage[S::number];
    return cpu::find_candidates(s, state.batch, state.candidates, [&](std::size_t b, std::size_t i) {
      return all || gains_from_bounds<S>(member_.weights(), s, b, i);
    });
  }

  /// Rows 2p and 2p + 1 for the lower and upper bound of candidate first + p, at the head of stage S.
  template <class S>
  void seed_candidates(network_state<Net> const& state, std::size_t first, row_block const& rows,
                       coefficient_views<Net> const& a) const {
    name_both(state.stage[S::number], state.candidates + first, rows);
    seed_neurons<S>(state, rows, a);
  }

  /// One row for each candidate first + r, for the bound nearer to 0: the one that is likely to decide the neuron's
  /// sign.
  template <class S>
  void seed_nearer(network_state<Net> const& state, std::size_t first, row_block const& rows,
                   coefficient_views<Net> const& a) const {
    name_nearer(state.stage[S::number], state.candidates + first, rows);
    seed_neurons<S>(state, rows, a);
  }

  /// The opposite rows of those candidates of seed_nearer that are not decided after refine_nearer. Returns their
  /// number in rows.count; `all`: of every candidate.
  template <class S>
  void seed_opposite(network_state<Net> const& state, row_block& rows, coefficient_views<Net> const& a,
                     bool all) const {
    name_opposite(rows, [&](std::size_t b, std::size_t i) {
      return all || gains_from_bounds<S>(member_.weights(), state.stage[S::number], b, i);
    });
    seed_neurons<S>(state, rows, a);
  }

  /// Intersects the head's intervals of stage S with both bounds of each row.
  template <class S>
  void refine_nearer(network_state<Net>& state, row_block const& rows) const {
    cpu::refine_nearer(state.stage[S::number], rows);
  }

  /// Gives every rank the head's intervals of the first `count` candidates of stage S; each has refined its share.
  template <class S>
  void gather_candidates(network_state<Net>& state, std::size_t count, arena& memory) const {
    if (member_.ranks() == 1) return;
    std::size_t const mark = memory.used();
    gather_intervals(member_, state.stage[S::number], state.candidates, count, memory);
    memory.release(mark);
  }

  /// Rows for the neurons of the head of stage S that box, index and sign name.
  template <class S>
  void seed_neurons(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    auto const& s = state.stage[S::number];
    double const seed_error = gamma(rounds::template seed_roundings<S>(), unit_float);
    for (std::size_t r = 0; r < rows.count; ++r) {
      std::size_t const at = rows.box[r] * S::size + rows.index[r];
      rows.value[r] = rows.sign[r] * s.origin[at];
      rows.slack[r] = R::outward ? s.origin_error[at] + seed_error * s.radius[at] : 0;
      if (rows.far_value != nullptr) rows.far_value[r] = rows.value[r];
    }
    auto const x = sources<S>(state);
    auto const out = targets<S>(a);
    if constexpr (HeadOf<typename S::head, linear_head>) {
      any_blocks<S>([&](column_block const& w) { linear_seed(w, rows, *x[0], out[0]); });
    } else {
      clear(rows.count, x, out, [] {
        overwrite_flags<S> all;
        all.fill(true);
        return all;
      }());
      if constexpr (HeadOf<typename S::head, conv_head>) {
        with_filters<S>([&](conv_weights const& w) { conv_seed(w, rows, *x[0], out[0]); });
      }
      if constexpr (HeadOf<typename S::head, sparse_head>) sparse_seed<S>(rows, x, out);
    }
  }

  /// Rows for specification forms at the output of the last stage (and at the input, for terms over X).
  void seed_forms(network_state<Net> const& state, std::span<row_form const> forms, row_block const& rows,
                  coefficient_views<Net> const& a) const {
    cpu::seed_forms<R>(state.stage.front(), state.stage.back(), forms, rows, a.front(), a.back(),
                       rounds::template all_additions<Net, 0>());
  }

  /// Bounds rows at the output of the last stage (and at the input, for terms over X) by the intervals there.
  void bound_by_intervals(network_state<Net> const& state, row_block const& rows,
                          coefficient_views<Net> const& a) const {
    cpu::bound_by_intervals<R>(state.stage.front(), state.stage.back(), rows, a.front(), a.back());
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
      any_blocks<S>([&](column_block const& w) {
        linear_backward(w, rows.count, y, a[S::number], *x[0], out[0], overwrite[0], scratch);
      });
    } else {
      clear(rows.count, x, out, overwrite);
      if constexpr (HeadOf<typename S::head, conv_head>) {
        with_filters<S>(
            [&](conv_weights const& w) { conv_backward(w, rows.count, y, a[S::number], *x[0], out[0], scratch); });
      }
      if constexpr (HeadOf<typename S::head, sparse_head>) sparse_backward<S>(rows.count, y, a[S::number], x, out);
      if constexpr (HeadOf<typename S::head, max_head>) max_backward(rows, y, a[S::number], *x[0], out[0]);
    }
  }

  /// Both: from the output of stage S to the outputs of its operands.
  template <class S>
  void step_back(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                 overwrite_flags<S> const& overwrite, float* scratch) const {
    relax_rows<S>(state, rows, a);
    backward<S>(state, rows, a, overwrite, scratch);
  }

  /// Gives the bounds of rows to the head's intervals of stage S: intersects, or replaces if not `intersect`.
  template <class S>
  void refine(network_state<Net>& state, row_block const& rows, bool intersect) const {
    cpu::refine(state.stage[S::number], rows, intersect);
  }

  // Optimised rows (propagate/alpha.hpp), for a batch of one box.

  /// find_candidates for optimised rows, which cost too much to take stable neurons along.
  template <class S>
  std::size_t list_gaining(network_state<Net>& state, bool all) const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < S::size; ++i) {
      if (all || gains<S>(state, i)) state.candidates[count++] = static_cast<index_t>(i);
    }
    return count;
  }

  /// Names the rows of candidates from number `first` on: 2p and 2p + 1 for the lower and upper bound of one.
  template <class S>
  void name_rows(network_state<Net> const& state, std::size_t first, row_block const& rows) const {
    name_both(state.stage[S::number], state.candidates + first, rows);
  }

  /// rows.value becomes 1 for neurons that tighter bounds could still help, else 0.
  template <class S>
  void mark_gaining(network_state<Net> const& state, row_block const& rows) const {
    for (std::size_t r = 0; r < rows.count; ++r) rows.value[r] = gains<S>(state, rows.index[r]) ? 1 : 0;
  }

  /// Whether tighter bounds of neuron i could tighten its relaxation.
  template <class S>
  [[nodiscard]] bool gains(network_state<Net> const& state, std::size_t i) const {
    return gains_from_bounds<S>(member_.weights(), state.stage[S::number], 0, i);
  }

  /// Free columns of stage S, after relax<S>.
  template <class S>
  void collect_free(network_state<Net> const& state, free_columns& f, std::size_t offset) const {
    find_free<S, R>(member_.weights(), state.stage[S::number], f, offset, rounds::template roundings<S>(),
                    [&](std::size_t i) {
                      if constexpr (HeadOf<typename S::head, linear_head>) return bias<S>()[i];
                      if constexpr (HeadOf<typename S::head, conv_head>)
                        return bias<S>()[i / (S::shape[1] * S::shape[2])];
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
    if constexpr (HeadOf<typename S::head, linear_head>) {
      member_.weights().template each_block<S::info.head>(
          [&](column_block const& w) { linear_points(w, rows.count, *x[0], in[0], y, head, scratch); });
    }
    if constexpr (HeadOf<typename S::head, conv_head>) {
      with_filters<S>([&](conv_weights const& w) { conv_points(w, rows.count, *x[0], in[0], y, head, scratch); });
    }
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

  /// All bounds of the head of stage S, for the first box.
  template <class S>
  void head_bounds(network_state<Net> const& state, std::vector<float>& lower, std::vector<float>& upper) const {
    auto const& s = state.stage[S::number];
    lower.assign(s.lower, s.lower + s.size);
    upper.assign(s.upper, s.upper + s.size);
  }

  /// Copies the intervals of the head of stage S for box b to such a list.
  template <class S>
  void keep(network_state<Net> const& state, std::size_t b, float* known) const {
    keep_head(state.stage[S::number], b, known);
  }

  /// Lines, outputs and live columns of stage S from the intervals of its head.
  template <class S>
  void relax(network_state<Net>& state) const {
    relax_stage<S, R>(member_.weights(), sources<S>(state), state.stage[S::number], state.batch,
                      rounds::template roundings<S>(), rounded<S>());
  }

 protected:
  /// Sums of an affine head without its bias, [batch, size].
  template <class S>
  void add_up(network_state<Net> const& state, affine_sums* sums) const {
    auto const& x = *sources<S>(state)[0];
    if constexpr (HeadOf<typename S::head, linear_head>) {
      linear_sums<R>(S::size, S::template operand<0>.size(), each_block<S>(), x, state.batch, sums);
    } else {
      with_filters<S>([&](conv_weights const& w) { conv_sums(w, x, state.batch, sums); });
    }
  }
  template <class S>
  void store(network_state<Net> const& state, affine_sums const* sums, std::size_t most_terms) const {
    constexpr std::size_t each = HeadOf<typename S::head, conv_head> ? S::shape[1] * S::shape[2] : 1;
    store_intervals<R>(
        state.stage[S::number], state.batch, sums, [&](std::size_t i) { return bias<S>()[i / each]; }, most_terms,
        rounded<S>());
  }

  template <class S>
  [[nodiscard]] bool rounded() const {
    return rounded_head<S>(member_.weights());
  }

  template <class S>
  [[nodiscard]] float const* bias() const {
    return member_.weights().template tensor<S::info.head, 1>();
  }

  template <class S>
  [[nodiscard]] linear_weights dense() const {
    return {bias<S>(), S::size, S::template operand<0>.size(), rounded<S>()};
  }

  template <class S>
  [[nodiscard]] auto each_block() const {
    return [this](auto&& f) { member_.weights().template each_block<S::info.head>(f); };
  }
  template <class S, class F>
  void any_blocks(F&& f) const {
    member_.weights().template any_blocks<S::info.head>(f);
  }

  template <class S, class F>
  void with_filters(F&& f) const {
    member_.weights().template filters<S::info.head>([&](float const* weight) {
      f(conv_weights{weight, bias<S>(), S::head::filter, S::template operand<0>, S::shape, rounded<S>()});
    });
  }
};

}  // namespace hull::cpu
