// SPDX-License-Identifier: Apache-2.0
// A GPU as one of several ranks that divide neurons (TensorParallel): what differs from a machine that is alone. Which
// rank knows what, and why it is sound, is said in backend/cpu/divided_machine.hpp; the steps here are the same ones.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <hull/backend/cuda/divided_rows.cuh>
#include <hull/backend/cuda/machine.cuh>
#include <hull/backend/cuda/ranks.cuh>
#include <hull/net/divide.hpp>
#include <hull/shard/neuron_rank.hpp>

namespace hull::cuda {

template <Network Net, class R, class Member, class P = Fp32>
class divided_machine final : public neuron_rank<Net, machine<Net, R, Member, P>> {
  using base = neuron_rank<Net, machine<Net, R, Member, P>>;
  using base::block;
  using base::counts_for_all;
  using base::device_;
  using base::others_;
  using base::own_;
  using base::stream;
  using base::weights_;

 public:
  explicit divided_machine(Member member) : base(member) {}

  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch, std::size_t threads) {
    std::size_t const floats = base::template forward_floats<S>(batch, threads);
    return has_role<S>(role::second) ? std::max(floats, batch * S::size * sizeof(affine_sums) / sizeof(float)) : floats;
  }

  template <class S>
  void forward(network_state<Net>& state, float* scratch) const {
    if constexpr (has_role<S>(role::second)) {
      auto* const sums = reinterpret_cast<affine_sums*>(scratch);
      std::size_t const count = state.batch * S::size;
      this->template affine_forward<S>(state, sums, true);
      sum(reinterpret_cast<double*>(sums), 3 * count);
      store_sums_kernel<R><<<blocks_for(count, block), block, 0, stream()>>>(
          state.stage[S::number], count, sums, this->template constants<S>(),
          gamma_sum((affine_terms<S>() + 1) * Net::ranks), this->template rounded<S>());
      check_launch("forward");
    } else {
      base::template forward<S>(state, scratch);
    }
  }

  template <class S>
  void relax(network_state<Net>& state) const {
    base::template relax<S>(state);
    if constexpr (has_role<S>(role::first)) sum(state.stage[S::number].total_spread, state.batch);
  }

  // Neurons that send rows: each rank lists its own; numbers run over all ranks.

  template <class S>
  std::size_t find_candidates(network_state<Net>& state, bool all) {
    if constexpr (!has_role<S>(role::first)) return base::template find_candidates<S>(state, all);
    auto* const counts = reinterpret_cast<double*>(device_.mail());
    expect(state.batch * sizeof(double) <= device::mail_bytes, "CUDA: too many boxes in a batch");
    count_gaining_kernel<S><<<static_cast<unsigned>(state.batch), list_threads, 0, stream()>>>(
        weights_.view(), state.stage[S::number], all, static_cast<unsigned>(this->template valid<S>()), counts);
    check_launch("count_gaining");
    sum(counts, state.batch);
    return list_own<S>(state, all, counts);
  }
  template <class S>
  std::size_t list_gaining(network_state<Net>& state, bool all) {
    if constexpr (!has_role<S>(role::first)) return base::template list_gaining<S>(state, all);
    return list_own<S>(state, all, nullptr);
  }

  template <class S>
  void seed_candidates(network_state<Net> const& state, std::size_t first, row_block const& rows,
                       coefficient_views<Net> const& a) const {
    name<S>(state, first, rows, naming::both);
    seed_neurons<S>(state, rows, a);
  }
  template <class S>
  void name_rows(network_state<Net> const& state, std::size_t first, row_block const& rows) const {
    name<S>(state, first, rows, naming::both);
  }
  template <class S>
  void seed_nearer(network_state<Net> const& state, std::size_t first, row_block const& rows,
                   coefficient_views<Net> const& a) const {
    name<S>(state, first, rows, naming::nearer);
    seed_neurons<S>(state, rows, a);
  }

  template <class S>
  void seed_opposite(network_state<Net> const& state, row_block& rows, coefficient_views<Net> const& a,
                     bool all) const {
    if (rows.count > 0) {
      each_row(rows, [&](unsigned blocks) {
        mark_gaining_kernel<S><<<blocks, block, 0, stream()>>>(weights_.view(), state.stage[S::number], rows, all);
      });
      if constexpr (has_role<S>(role::first)) sum(rows.value, rows.count);
      turn_rows_kernel<<<1, list_threads, 0, stream()>>>(rows, this->list_count());
      check_launch("seed_opposite");
      rows.count = this->listed();
    }
    seed_neurons<S>(state, rows, a);
  }

  template <class S>
  void mark_gaining(network_state<Net> const& state, row_block const& rows) const {
    base::template mark_gaining<S>(state, rows);
    if constexpr (has_role<S>(role::first)) sum(rows.value, rows.count);
  }

  /// A row with sign 0 belongs to another rank's neuron: here it begins as zero.
  template <class S>
  void seed_neurons(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    base::template seed_neurons<S>(state, rows, a);
    drop_constants(rows, has_role<S>(role::first));
    if constexpr (has_role<S>(role::first)) {
      constexpr std::size_t from = S::template input<0>;
      sum(a[from], rows.count * state.stage[from].live_count);
    }
  }

  void seed_forms(network_state<Net> const& state, std::span<row_form const> forms, row_block const& rows,
                  coefficient_views<Net> const& a) const {
    base::seed_forms(state, forms, rows, a);
    drop_constants(rows, false);
  }

  void bound_by_intervals(network_state<Net> const& state, row_block const& rows,
                          coefficient_views<Net> const& a) const {
    add_constants(rows);
    base::bound_by_intervals(state, rows, a);
  }

  template <class S>
  void relax_rows(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    if constexpr (S::number == 0) add_constants(rows);
    cuda::relax_rows<R, S::number == 0>(stream(), rows, state.stage[S::number], a[S::number], a[S::number],
                                        state.batch > 1, S::number == 0 || this->template counts<S>());
  }

  template <class S>
  void relax_free_rows(network_state<Net> const& state, free_columns const& f, row_block const& rows,
                       free_rows const& parameters, coefficient_views<Net> const& a, float* moved) const {
    base::template relax_free_rows<S>(state, f, rows, parameters, a, moved, this->template counts<S>());
  }

  /// Where neurons are divided, each rank has a part of the sum for the operand.
  template <class S>
  void backward(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                overwrite_flags<S> overwrite, float* scratch) const {
    if constexpr (has_role<S>(role::first)) {
      constexpr std::size_t from = S::template input<0>;
      std::size_t const floats = rows.count * state.stage[from].live_count;
      // what is there already is the same on all ranks: one of them adds it
      if (!overwrite[0] && !counts_for_all()) device_.clear(a[from], floats);
      base::template backward<S>(state, rows, a, overwrite, scratch);
      sum(a[from], floats);
    } else {
      base::template backward<S>(state, rows, a, overwrite, scratch);
    }
  }

  template <class S>
  void step_back(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                 overwrite_flags<S> const& overwrite, float* scratch) const {
    relax_rows<S>(state, rows, a);
    backward<S>(state, rows, a, overwrite, scratch);
  }

  template <class S>
  void points(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& d, float* head,
              float* scratch) const {
    base::template points<S>(state, rows, d, head, scratch);
    if constexpr (has_role<S>(role::second)) sum(head, rows.count * state.stage[S::number].live_count);
  }

 private:
  /// Over ranks, of numbers on the device.
  template <class T>
  void sum(T* numbers, std::size_t count) const {
    others_.sum(numbers, count, stream());
  }

  template <class S>
  std::size_t list_own(network_state<Net>& state, bool all, double const* counts) {
    own_candidates_kernel<S><<<1, list_threads, 0, stream()>>>(
        weights_.view(), state.stage[S::number], state.batch, all, static_cast<unsigned>(this->template valid<S>()),
        counts, 0.9 * static_cast<double>(base::template whole_size<S>()), state.candidates, this->list_count());
    check_launch("candidates");
    return this->number(this->settle());
  }

  /// Names the rows of candidates from `first` on; those of other ranks get the sign 0.
  template <class S>
  void name(network_state<Net> const& state, std::size_t first, row_block const& rows, naming how) const {
    constexpr bool divided = has_role<S>(role::first);
    row_range const own = divided ? own_ : row_range{0, ~std::size_t{0}};
    each_row(rows, [&](unsigned blocks) {
      name_own_kernel<<<blocks, block, 0, stream()>>>(state.stage[S::number], state.candidates, own, first, rows, how);
    });
    if (!divided || state.batch == 1) return;
    each_row(rows, [&](unsigned blocks) { boxes_to_values_kernel<<<blocks, block, 0, stream()>>>(rows); });
    sum(rows.value, rows.count);
    each_row(rows, [&](unsigned blocks) { values_to_boxes_kernel<<<blocks, block, 0, stream()>>>(rows); });
  }

  void drop_constants(row_block const& rows, bool divided) const {
    each_row(rows, [&](unsigned blocks) {
      drop_constants_kernel<<<blocks, block, 0, stream()>>>(rows, divided, counts_for_all());
    });
  }

  /// Value and slack of rows, from the parts that all ranks have. The additions themselves round.
  void add_constants(row_block const& rows) const {
    if constexpr (R::outward) {
      each_row(rows, [&](unsigned blocks) {
        widen_slack_kernel<<<blocks, block, 0, stream()>>>(rows, 2 * unit_double * static_cast<double>(Net::ranks));
      });
    }
    // together: the time of a sum of few numbers does not depend on how many they are
    std::size_t const numbers = (rows.far_value != nullptr ? 3 : 2) * rows.count;
    if (numbers * sizeof(double) > device::mail_bytes) {
      for (double* one : {rows.value, rows.slack, rows.far_value}) {
        if (one != nullptr) sum(one, rows.count);
      }
      return;
    }
    auto* const places = reinterpret_cast<double*>(device_.mail());
    each_row(rows, [&](unsigned blocks) { copy_constants_kernel<true><<<blocks, block, 0, stream()>>>(rows, places); });
    sum(places, numbers);
    each_row(rows,
             [&](unsigned blocks) { copy_constants_kernel<false><<<blocks, block, 0, stream()>>>(rows, places); });
  }

  /// Launches a kernel with a thread for each row.
  template <class Launch>
  void each_row(row_block const& rows, Launch&& launch) const {
    if (rows.count == 0) return;
    launch(blocks_for(rows.count, block));
    check_launch("rows");
  }
};

}  // namespace hull::cuda
