// SPDX-License-Identifier: Apache-2.0
// What an optimiser's caller sees of rows that end. They lie in the machine's memory, which may be a device's.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/net/fuse.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/split_candidates.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// One row: its coefficients at the output of every stage; at the input they tell which corner minimises it.
template <Network Net, class M>
class row_view final {
 public:
  row_view(M const& machine, network_state<Net> const& state, coefficient_views<Net> const& a, std::size_t row)
      : machine_(&machine), state_(&state), a_(&a), row_(row) {}
  row_view(row_view const&) = delete;
  row_view& operator=(row_view const&) = delete;
  ~row_view() = default;

  /// [live columns], for the host, while this lives; null where the row has not come.
  [[nodiscard]] float const* coefficients(std::size_t k) const {
    if ((*a_)[k] == nullptr) return nullptr;
    std::size_t const live = state_->stage[k].live_count;
    return machine_->fetch((*a_)[k] + row_ * live, live, copies_[k]);
  }

 private:
  M const* machine_;
  network_state<Net> const* state_;
  coefficient_views<Net> const* a_;
  std::size_t row_;
  mutable std::array<std::vector<float>, stage_count<Net>> copies_;
};

/// Rows that end at the same step. Views: it lives as long as the call that gets it.
template <Network Net, class M>
class ended_rows final {
 public:
  ended_rows(M const& machine, network_state<Net> const& state, free_state<Net> const& free,
             free_rows const& parameters, coefficient_views<Net> const& a, std::span<index_t const> rows,
             std::span<std::size_t const> number)
      : machine_(&machine),
        state_(&state),
        free_(&free),
        parameters_(&parameters),
        a_(&a),
        rows_(rows),
        number_(number) {}

  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  /// Of row i among the tasks that the caller gave.
  [[nodiscard]] std::size_t number(std::size_t i) const { return number_[i]; }
  [[nodiscard]] row_view<Net, M> operator[](std::size_t i) const { return {*machine_, *state_, *a_, rows_[i]}; }

  /// Scores the free neurons of the stages that `stages` takes and that are not split yet, for rows some[0], some[1],
  /// ... of these. Parameters are this rank's.
  [[nodiscard]] std::vector<split_candidates> score(std::span<std::size_t const> some,
                                                    std::array<bool, stage_count<Net>> const& stages) const {
    std::vector<index_t> rows;
    for (std::size_t const i : some) rows.push_back(rows_[i]);
    std::vector<split_candidates> found(rows.size());
    if (!rows.empty()) machine_->score_rows(*state_, *free_, *parameters_, *a_, rows, stages, found);
    return found;
  }

 private:
  M const* machine_;
  network_state<Net> const* state_;
  free_state<Net> const* free_;
  free_rows const* parameters_;
  coefficient_views<Net> const* a_;
  std::span<index_t const> rows_;
  std::span<std::size_t const> number_;
};

}  // namespace hull
