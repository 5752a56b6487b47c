// SPDX-License-Identifier: Apache-2.0
// The CPU as one of several ranks that divide neurons (TensorParallel): what differs from a machine that is alone.
//
// Values of the first layer of a pair, and of what follows it, are of this rank's neurons only. All else is the same on
// all ranks. Of the constants of a row (value, slack), each rank holds a part: that of its own neurons, and rank 0
// those of everything that all have; they are added up where the row ends.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/net/divide.hpp>
#include <hull/shard/neuron_rank.hpp>

namespace hull::cpu {

template <Network Net, class R, class Member>
class divided_machine final : public neuron_rank<Net, machine<Net, R, Member>> {
  using base = neuron_rank<Net, machine<Net, R, Member>>;
  using base::counts_for_all;
  using base::own_;

 public:
  using base::base;

  template <class S>
  [[nodiscard]] static constexpr std::size_t forward_floats(std::size_t batch, std::size_t threads) {
    std::size_t const floats = base::template forward_floats<S>(batch, threads);
    return has_role<S>(role::second) ? std::max(floats, batch * S::size * sizeof(affine_sums) / sizeof(float)) : floats;
  }

  template <class S>
  void forward(network_state<Net>& state, float* scratch) const {
    if constexpr (has_role<S>(role::second)) {
      auto* const sums = reinterpret_cast<affine_sums*>(scratch);
      this->template add_up<S>(state, sums);
      this->member_.sum(reinterpret_cast<double*>(sums), 3 * state.batch * S::size);
      this->template store<S>(state, sums, (affine_terms<S>() + 1) * Net::ranks);
    } else {
      base::template forward<S>(state, scratch);
    }
  }

  template <class S>
  void relax(network_state<Net>& state) const {
    base::template relax<S>(state);
    if constexpr (has_role<S>(role::first)) this->member_.sum(state.stage[S::number].total_spread, state.batch);
  }

  // Neurons that send rows: each rank lists its own; numbers run over all ranks.

  template <class S>
  std::size_t find_candidates(network_state<Net>& state, bool all) {
    if constexpr (!has_role<S>(role::first)) return base::template find_candidates<S>(state, all);
    std::size_t const mine = this->template valid<S>();
    std::vector<double> counts(state.batch, 0.0);
    for (std::size_t b = 0; b < state.batch; ++b) {
      for (std::size_t i = 0; i < mine; ++i) counts[b] += gains_here<S>(state, b, i, all) ? 1 : 0;
    }
    this->member_.sum(counts.data(), counts.size());
    std::size_t count = 0;
    for (std::size_t b = 0; b < state.batch; ++b) {
      bool const most =
          counts[b] * 10 > static_cast<double>(base::template whole_size<S>() * 9);  // as cpu::find_candidates has it
      for (std::size_t i = 0; i < mine; ++i) {
        if (most || gains_here<S>(state, b, i, all)) state.candidates[count++] = static_cast<index_t>(b * S::size + i);
      }
    }
    return this->number(count);
  }

  template <class S>
  std::size_t list_gaining(network_state<Net>& state, bool all) {
    if constexpr (!has_role<S>(role::first)) return base::template list_gaining<S>(state, all);
    std::size_t count = 0;
    for (std::size_t i = 0; i < this->template valid<S>(); ++i) {
      if (gains_here<S>(state, 0, i, all)) state.candidates[count++] = static_cast<index_t>(i);
    }
    return this->number(count);
  }

  template <class S>
  void seed_candidates(network_state<Net> const& state, std::size_t first, row_block const& rows,
                       coefficient_views<Net> const& a) const {
    name_rows<S>(state, first, rows);
    seed_neurons<S>(state, rows, a);
  }

  template <class S>
  void name_rows(network_state<Net> const& state, std::size_t first, row_block const& rows) const {
    name<S>(state, first, rows, 2,
            [&](index_t const* own, row_block const& some) { name_both(state.stage[S::number], own, some); });
  }

  template <class S>
  void seed_nearer(network_state<Net> const& state, std::size_t first, row_block const& rows,
                   coefficient_views<Net> const& a) const {
    name<S>(state, first, rows, 1,
            [&](index_t const* own, row_block const& some) { name_nearer(state.stage[S::number], own, some); });
    seed_neurons<S>(state, rows, a);
  }

  template <class S>
  void seed_opposite(network_state<Net> const& state, row_block& rows, coefficient_views<Net> const& a,
                     bool all) const {
    if constexpr (has_role<S>(role::first)) {
      for (std::size_t r = 0; r < rows.count; ++r) {
        bool const goes_on = rows.sign[r] != 0 && gains_here<S>(state, rows.box[r], rows.index[r], all);
        rows.value[r] = goes_on ? 1 : 0;
      }
      this->member_.sum(rows.value, rows.count);
      std::size_t count = 0;
      for (std::size_t r = 0; r < rows.count; ++r) {
        if (rows.value[r] == 0) continue;
        rows.box[count] = rows.box[r];
        rows.index[count] = rows.index[r];
        rows.sign[count] = -rows.sign[r];
        ++count;
      }
      rows.count = count;
      seed_neurons<S>(state, rows, a);
    } else {
      name_opposite(rows, [&](std::size_t b, std::size_t i) { return gains_here<S>(state, b, i, all); });
      seed_neurons<S>(state, rows, a);
    }
  }

  template <class S>
  void mark_gaining(network_state<Net> const& state, row_block const& rows) const {
    base::template mark_gaining<S>(state, rows);
    if constexpr (has_role<S>(role::first)) {
      for (std::size_t r = 0; r < rows.count; ++r) rows.value[r] = rows.sign[r] == 0 ? 0 : rows.value[r];
      this->member_.sum(rows.value, rows.count);
    }
  }

  /// A row with sign 0 belongs to another rank's neuron: here it begins as zero.
  template <class S>
  void seed_neurons(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    base::template seed_neurons<S>(state, rows, a);
    constexpr bool divided = has_role<S>(role::first);
    for (std::size_t r = 0; r < rows.count; ++r) {
      if (divided ? rows.sign[r] != 0 : counts_for_all()) continue;
      rows.value[r] = rows.slack[r] = 0;
      if (rows.far_value != nullptr) rows.far_value[r] = 0;
    }
    if constexpr (divided) {
      std::size_t const from = S::template input<0>;
      this->member_.sum(a[from], rows.count * state.stage[from].live_count);
    }
  }

  void seed_forms(network_state<Net> const& state, std::span<row_form const> forms, row_block const& rows,
                  coefficient_views<Net> const& a) const {
    base::seed_forms(state, forms, rows, a);
    if (counts_for_all()) return;
    for (double* one : {rows.value, rows.slack, rows.far_value}) {
      if (one != nullptr) std::fill_n(one, rows.count, 0.0);
    }
  }

  void bound_by_intervals(network_state<Net> const& state, row_block const& rows,
                          coefficient_views<Net> const& a) const {
    add_constants(rows);
    base::bound_by_intervals(state, rows, a);
  }

  template <class S>
  void relax_rows(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a) const {
    if constexpr (S::number == 0) add_constants(rows);
    bool const counts = S::number == 0 || this->template counts<S>();
    cpu::relax_rows<R, S::number == 0>(rows, state.stage[S::number], a[S::number], counts);
  }

  template <class S>
  void relax_free_rows(network_state<Net> const& state, free_columns const& f, row_block const& rows,
                       free_rows const& parameters, coefficient_views<Net> const& a, float* moved) const {
    auto const& s = state.stage[S::number];
    bool const counts = this->template counts<S>();
    if constexpr (hull::detail::has_kink<S>()) {
      cpu::relax_free_rows<R>(rows, s, f, parameters, a[S::number], moved, counts);
    } else {
      std::copy_n(a[S::number], rows.count * s.live_count, moved);
      cpu::relax_rows<R, false>(rows, s, moved, counts);
    }
  }

  /// Where neurons are divided, each rank has a part of the sum for the operand.
  template <class S>
  void backward(network_state<Net> const& state, row_block const& rows, coefficient_views<Net> const& a,
                overwrite_flags<S> overwrite, float* scratch) const {
    if constexpr (has_role<S>(role::first)) {
      std::size_t const from = S::template input<0>, floats = rows.count * state.stage[from].live_count;
      if (!overwrite[0] && !counts_for_all()) {  // what is there already is the same on all ranks: one of them adds it
        std::fill_n(a[from], floats, 0.0f);
      }
      base::template backward<S>(state, rows, a, overwrite, scratch);
      this->member_.sum(a[from], floats);
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
    if constexpr (has_role<S>(role::second)) {
      this->member_.sum(head, rows.count * state.stage[S::number].live_count);
    }
  }

 private:
  template <class S>
  [[nodiscard]] bool gains_here(network_state<Net> const& state, std::size_t b, std::size_t i, bool all) const {
    return all || gains_from_bounds<S>(this->member_.weights(), state.stage[S::number], b, i);
  }

  /// Names the rows of candidates from `first` on, `each` for one; those of other ranks get the sign 0.
  template <class S, class Name>
  void name(network_state<Net> const& state, std::size_t first, row_block const& rows, std::size_t each,
            Name&& name_own) const {
    if constexpr (!has_role<S>(role::first)) {
      name_own(state.candidates + first, rows);
    } else {
      std::size_t const last = first + rows.count / each;
      std::size_t const begin = std::clamp(own_.first, first, last), end = std::clamp(own_.last, begin, last);
      std::fill_n(rows.sign, rows.count, 0.0f);
      std::fill_n(rows.box, rows.count, index_t{0});
      std::fill_n(rows.index, rows.count, index_t{0});
      row_block some = rows;
      std::size_t const skip = (begin - first) * each;
      some.count = (end - begin) * each;
      some.box += skip;
      some.index += skip;
      some.sign += skip;
      name_own(state.candidates + (begin - own_.first), some);
      if (state.batch == 1) return;
      for (std::size_t r = 0; r < rows.count; ++r) rows.value[r] = rows.box[r];
      this->member_.sum(rows.value, rows.count);
      for (std::size_t r = 0; r < rows.count; ++r) rows.box[r] = static_cast<index_t>(rows.value[r]);
    }
  }

  /// Value and slack of rows, from the parts that all ranks have. The additions themselves round.
  void add_constants(row_block const& rows) const {
    double const share = 2 * unit_double * static_cast<double>(Net::ranks);
    if constexpr (R::outward) {
      for (std::size_t r = 0; r < rows.count; ++r) {
        double size = std::fabs(rows.value[r]);
        if (rows.far_value != nullptr) size = std::max(size, std::fabs(rows.far_value[r]));
        rows.slack[r] = (rows.slack[r] + share * size) * (1 + share);
      }
    }
    for (double* one : {rows.value, rows.slack, rows.far_value}) {
      if (one != nullptr) this->member_.sum(one, rows.count);
    }
  }
};

/// This backend, for on<> (shard/on.hpp).
struct backend final {
  template <Network Net, class R, class Member>
  using machine =
      std::conditional_t<(ranks_of<Net> > 1), divided_machine<Net, R, Member>, cpu::machine<Net, R, Member>>;
};

}  // namespace hull::cpu
