// SPDX-License-Identifier: Apache-2.0
// Rows that are optimised together, what they are asked for, and what is seen of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/propagate/free.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// A specification row to be bounded in a domain: in goes where to start, out comes the best that was found.
struct form_task final {
  linear_constraint const* form = nullptr;
  std::span<split const> splits{};                        // by the numbers that all ranks share
  float* alpha = nullptr;                                 // [width] in [0, 1], in and out
  float* beta = nullptr;                                  // [splits] >= 0, or unset_beta, in and out
  double goal = std::numeric_limits<double>::infinity();  // the row ends when its bound is greater
  double bound = -std::numeric_limits<double>::infinity();
  // Of domains, whose rows are many: where to start if not at `alpha`, which may be null then; tasks may share it. Of
  // tasks that climb together all have it or none.
  packed_alpha const* start = nullptr;  // [width]
  packed_alpha* kept = nullptr;  // [width] gets the best parameters unless the goal is reached; else `alpha` does

  [[nodiscard]] bool reached() const { return bound > goal; }

  /// Where no step has found better parameters.
  void end_at_start(std::size_t width) const {
    if (start == nullptr) return;
    if (kept != nullptr) std::copy_n(start, width, kept);
    if (alpha != nullptr) std::transform(start, start + width, alpha, unpack_alpha);
  }
};

/// What a hidden row that has ended came to.
struct ended_row final {
  row_progress progress;
  std::vector<float> alpha;  // of its best bound
};

/// Rows of one chunk with their parameters, in the machine's memory, and how far each has come.
template <Network Net>
struct climbing_chunk final {
  row_block rows;
  free_rows parameters;
  coefficient_views<Net> a{};
  float* moved = nullptr;
  float* scratch = nullptr;
  std::vector<std::size_t> id;         // number of each row among the chunk's first rows
  std::vector<row_progress> progress;  // [r] on the host

  /// Drops the rows that are done, here; the machine moves what it holds of the others, whose old numbers are returned.
  [[nodiscard]] std::vector<index_t> compact() {
    std::vector<index_t> left;
    for (std::size_t r = 0; r < rows.count; ++r) {
      if (progress[r].done != 0) continue;
      std::size_t const to = left.size();
      id[to] = id[r];
      progress[to] = progress[r];
      left.push_back(static_cast<index_t>(r));
    }
    bool const all = left.size() == rows.count;
    rows.count = left.size();
    if (all) left.clear();
    return left;
  }
};

/// Splits of rows on the host, in the layout of free_rows, on their way to the machine.
struct host_rows final {
  std::vector<float> split_sign, beta;
  std::vector<index_t> split_count, split_parameter;
  std::size_t splits;

  host_rows(std::size_t rows, free_rows const& like)
      : split_sign(rows * like.splits),
        beta(rows * like.splits),
        split_count(rows),
        split_parameter(rows * like.splits),
        splits(like.splits) {}

  /// A split of another rank's neuron changes nothing here.
  template <Network Net>
  void set_splits(std::size_t r, std::span<split const> those, parameter_numbers<Net> const& numbers,
                  float const* multipliers, float otherwise) {
    split_count[r] = static_cast<index_t>(those.size());
    for (std::size_t q = 0; q < those.size(); ++q) {
      split_parameter[r * splits + q] = numbers.here(those[q].parameter);
      split_sign[r * splits + q] = those[q].sign;
      beta[r * splits + q] = multipliers == nullptr ? otherwise : multipliers[q];
    }
  }

  template <class M>
  void send(M& machine, free_rows const& to) const {
    machine.write(to.split_count, split_count.data(), split_count.size());
    if (splits == 0) return;
    machine.write(to.split_parameter, split_parameter.data(), split_parameter.size());
    machine.write(to.split_sign, split_sign.data(), split_sign.size());
    machine.write(to.beta, beta.data(), beta.size());
  }
};

/// Parameters, splits and goals of tasks, to the rows of a chunk.
template <class M, Network Net>
void load_tasks(M& machine, climbing_chunk<Net> const& work, std::span<form_task const> tasks,
                parameter_numbers<Net> const& numbers) {
  host_rows all(tasks.size(), work.parameters);
  machine.for_each(tasks.size(), 8 * work.parameters.splits,
                   [&](std::size_t r) { all.set_splits(r, tasks[r].splits, numbers, tasks[r].beta, unset_beta); });
  auto const& p = work.parameters;
  if (!tasks.empty() && tasks.front().start != nullptr) {
    std::vector<packed_alpha const*> starts;
    for (auto const& task : tasks) starts.push_back(task.start);
    machine.write_rows(p.alpha, p.width, std::span<packed_alpha const* const>(starts));
  } else {
    std::vector<float const*> alphas;
    for (auto const& task : tasks) alphas.push_back(task.alpha);
    machine.write_rows(p.alpha, p.width, std::span<float const* const>(alphas));
  }
  all.send(machine, p);
  if (p.progress == nullptr) return;
  std::vector<row_progress> progress(tasks.size());
  for (std::size_t r = 0; r < tasks.size(); ++r) {
    // what is known before may be enough
    double const least = -std::numeric_limits<double>::infinity();
    progress[r].goal = tasks[r].bound > tasks[r].goal ? least : tasks[r].goal;
  }
  machine.write(p.progress, progress.data(), progress.size());
}

/// The best parameters of rows that end, to their tasks.
template <class M, Network Net>
void take_back(M& machine, climbing_chunk<Net> const& work, std::span<form_task const> tasks,
               std::span<index_t const> over) {
  auto const& p = work.parameters;
  std::vector<index_t> kept, whole, with_beta;  // rows: what is packed, what is not, and both
  for (index_t const r : over) {
    auto const& task = tasks[work.id[r]];
    if (!(work.progress[r].best > -std::numeric_limits<double>::infinity())) {  // none were kept
      task.end_at_start(p.width);
      continue;
    }
    bool const packed = task.kept != nullptr && !task.reached();
    if (!packed && task.alpha == nullptr) continue;  // nobody asks
    (packed ? kept : whole).push_back(r);
    if (task.beta != nullptr) with_beta.push_back(r);
  }
  auto const task_of = [&](index_t r) -> form_task const& { return tasks[work.id[r]]; };
  machine.template read_rows<packed_alpha>(p.alpha_best, p.width, kept, [&](std::size_t i, packed_alpha const* row) {
    std::copy_n(row, p.width, task_of(kept[i]).kept);
  });
  machine.template read_rows<float>(p.alpha_best, p.width, whole, [&](std::size_t i, float const* row) {
    std::copy_n(row, p.width, task_of(whole[i]).alpha);
  });
  if (p.splits == 0) return;
  machine.template read_rows<float>(p.beta_best, p.splits, with_beta, [&](std::size_t i, float const* row) {
    std::copy_n(row, task_of(with_beta[i]).splits.size(), task_of(with_beta[i]).beta);
  });
}

}  // namespace hull
