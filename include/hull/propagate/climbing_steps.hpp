// SPDX-License-Identifier: Apache-2.0
// A chunk of optimised rows: its memory, the way back to the input, and the way forward on which parameters climb.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include <hull/core/deadline.hpp>
#include <hull/propagate/climbing_chunk.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/memory.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// What row_climber (propagate/alpha.hpp) is made of.
template <Network Net, class M>
class climbing_steps {
 protected:
  static constexpr std::size_t last = stage_count<Net> - 1;

  climbing_steps(M& machine, network_state<Net>& state, arena& rows)
      : machine_(&machine), state_(&state), rows_(&rows) {}

  using sizes = memory_of<Net, M>;
  using workspace = climbing_chunk<Net>;

  /// Floats of a row of `start` at stage k.
  [[nodiscard]] std::size_t floats(coefficient_plan<Net> const& layout, std::size_t start, std::size_t k) const {
    if (!layout.reached(k)) return 0;
    std::size_t const part = detail::climbing_floats<M>(start, k);
    return part > 0 ? part : state_->stage[k].live_count;
  }
  [[nodiscard]] std::size_t columns(coefficient_plan<Net> const& layout, std::size_t start) const {
    std::size_t sum = 0;
    for (std::size_t k = 0; k <= last; ++k) sum += floats(layout, start, k);
    return sum + widest(layout, start);
  }
  [[nodiscard]] std::size_t widest(coefficient_plan<Net> const& layout, std::size_t start) const {
    std::size_t most = 0;
    for (std::size_t k = 0; k <= last; ++k) most = std::max(most, floats(layout, start, k));
    return most;
  }

  /// Rows of a chunk, even, at most `most` over all ranks; rows have the parameters of stages up to `behind`. `start`:
  /// the stage at whose head all start, where the machine may make use of that.
  [[nodiscard]] std::size_t chunk_rows(coefficient_plan<Net> const& layout, std::size_t start, std::size_t behind,
                                       std::size_t splits, bool moments, std::size_t most) const {
    std::size_t const one = sizes::climbing_row(columns(layout, start), free_.width(behind), splits, moments);
    std::size_t const fixed = sizes::climbing_fixed(M::threads());
    std::size_t const room = rows_->capacity() > fixed ? rows_->capacity() - fixed : 0;
    return machine_->least(std::clamp<std::size_t>(room / one / 2 * 2, 2, machine_->most(most)));
  }

  [[nodiscard]] workspace carve_chunk(coefficient_plan<Net> const& layout, std::size_t start, std::size_t behind,
                                      std::size_t rows, std::size_t splits, bool moments, bool keeps) {
    arena& chunk = *rows_;
    workspace work;
    work.rows.count = rows;
    work.rows.box = chunk.take<index_t>(rows);
    work.rows.index = chunk.take<index_t>(rows);
    work.rows.sign = chunk.take<float>(rows);
    work.rows.value = chunk.take<double>(rows);
    work.rows.slack = chunk.take<double>(rows);
    work.rows.bound = chunk.take<double>(rows);
    work.parameters.width = free_.width(behind);
    work.parameters.splits = splits;
    work.parameters.carve(chunk, rows, moments, keeps);
    for (std::size_t k = 0; k <= last; ++k) {
      if (layout.reached(k)) work.a[k] = chunk.take<float>(rows * floats(layout, start, k));
    }
    work.moved = chunk.take<float>(rows * widest(layout, start));
    work.scratch = chunk.take<float>(sizes::climbing_scratch(M::threads()));
    if constexpr (requires { machine_->begin_climbing(*state_, free_, work.rows); }) {
      if (std::size_t const tables = M::climbing_tables(start); start != row_block::anywhere && tables > 0) {
        work.rows.start = start;
        work.rows.tables = chunk.take<float>(tables);
        machine_->begin_climbing(*state_, free_, work.rows);
      }
    }
    auto const& p = work.parameters;
    if (moments) {
      machine_->clear(p.alpha_mean, rows * p.width);
      machine_->clear(p.alpha_square, rows * p.width);
      machine_->clear(p.beta_mean, rows * p.splits);
      machine_->clear(p.beta_square, rows * p.splits);
    }
    machine_->clear(p.split_count, rows);
    work.id.resize(rows);
    for (std::size_t r = 0; r < rows; ++r) work.id[r] = r;
    work.progress.assign(rows, {});
    return work;
  }

  /// CROWN's own parameters of the stages up to `behind`, for all rows.
  void start_chunk(workspace const& work, std::size_t behind) const {
    for (std::size_t k = 1; k <= behind; ++k) machine_->start_rows(free_.stage[k], work.parameters, work.rows.count);
  }

  /// From the outputs of stage K, or of the operands of the start stage K + 1, to the bounds of the rows.
  template <std::size_t K>
  void evaluate(coefficient_plan<Net> const& layout, workspace& work) {
    for_each_stage_backward<K>([&]<std::size_t J> {
      using S = stage<Net, J>;
      if (!layout.reached(J)) return;
      machine_->poll(end_);
      machine_->template relax_free_rows<S>(*state_, free_.stage[J], work.rows, work.parameters, work.a, work.moved);
      auto from = work.a;
      from[J] = work.moved;
      machine_->template backward<S>(*state_, work.rows, from, overwrites<S>(layout), work.scratch);
    });
    machine_->template relax_rows<stage<Net, 0>>(*state_, work.rows, work.a);
  }

  /// From the minimising corner forward through each row's relaxed network; parameters climb on the way.
  template <std::size_t K>
  void update(coefficient_plan<Net> const& layout, workspace& work, ascent const& how, std::size_t step) {
    adam_step const adam = adam_at(how, step);
    std::array<bool, stage_count<Net>> wanted{};  // the stage, or one that reads it, has parameters
    for (std::size_t k = K; k > 0; --k) {
      wanted[k] = layout.reached(k) && (wanted[k] || free_.stage[k].present);
      auto const& info = stage_table_of<Net>.stage[k];
      for (std::size_t i = 0; wanted[k] && i < info.input_count; ++i) wanted[info.inputs[i]] = true;
    }
    machine_->minimise(*state_, work.rows, work.a);
    for_each_stage<1, K + 1>([&]<std::size_t J> {
      using S = stage<Net, J>;
      if (!wanted[J]) return;
      machine_->poll(end_);
      machine_->template points<S>(*state_, work.rows, work.a, work.moved, work.scratch);
      machine_->template climb<S>(*state_, free_.stage[J], work.rows, work.parameters, adam, work.a, work.moved);
    });
  }

  M* machine_;
  network_state<Net>* state_;
  free_state<Net> free_;
  parameter_numbers<Net> numbers_;
  arena* rows_;
  deadline end_;
};

}  // namespace hull
