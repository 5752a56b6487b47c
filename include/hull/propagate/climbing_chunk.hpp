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
  float* alpha = nullptr;                                 // [width] in [0, 1]
  float* beta = nullptr;                                  // [splits] >= 0, or unset_beta
  double goal = std::numeric_limits<double>::infinity();  // the row ends when its bound is greater
  double bound = -std::numeric_limits<double>::infinity();
  float const* start = nullptr;  // [width] where to start, if not at `alpha`; tasks may share it

  /// Where no step has found better parameters.
  void end_at_start(std::size_t width) const {
    if (start != nullptr) std::copy_n(start, width, alpha);
  }
};

/// The best parameters of a hidden row so far.
struct kept_row final {
  double bound = -std::numeric_limits<double>::infinity();
  std::vector<float> alpha;
};

/// Rows of one chunk with their parameters, in the machine's memory, and how far each has come.
template <Network Net>
struct climbing_chunk final {
  row_block rows;
  free_rows parameters;
  coefficient_views<Net> a{};
  float* moved = nullptr;
  float* scratch = nullptr;
  std::vector<std::size_t> id;     // number of each row among the chunk's first rows
  std::vector<double> best;        // [r]
  std::vector<std::size_t> since;  // [r] steps since then
  std::vector<char> done;          // [r]

  /// Notes the new bound of row r. Returns whether it is better than all before.
  bool improve(std::size_t r, double bound, ascent const& how) {
    bool const better = bound > best[r];  // false for NaN
    since[r] = better ? 0 : since[r] + 1;
    if (better) best[r] = bound;
    if (since[r] >= how.patience) done[r] = 1;
    return better;
  }

  /// Drops the rows that are done, here; the machine moves what it holds of the others, whose old numbers are returned.
  [[nodiscard]] std::vector<index_t> compact() {
    std::vector<index_t> left;
    for (std::size_t r = 0; r < rows.count; ++r) {
      if (done[r]) continue;
      std::size_t const to = left.size();
      id[to] = id[r];
      best[to] = best[r];
      since[to] = since[r];
      done[to] = 0;
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

/// Parameters and splits of tasks, to the rows of a chunk.
template <class M, Network Net>
void load_tasks(M& machine, climbing_chunk<Net> const& work, std::span<form_task const> tasks,
                parameter_numbers<Net> const& numbers) {
  host_rows all(tasks.size(), work.parameters);
  std::vector<float const*> alphas;
  for (auto const& task : tasks) alphas.push_back(task.start != nullptr ? task.start : task.alpha);
  machine.for_each(tasks.size(), 8 * work.parameters.splits,
                   [&](std::size_t r) { all.set_splits(r, tasks[r].splits, numbers, tasks[r].beta, unset_beta); });
  machine.write_rows(work.parameters.alpha, work.parameters.width, alphas);
  all.send(machine, work.parameters);
}

/// The best parameters of rows that end, to their tasks.
template <class M, Network Net>
void take_back(M& machine, climbing_chunk<Net> const& work, std::span<form_task const> tasks,
               std::span<index_t const> over) {
  auto const& p = work.parameters;
  std::vector<index_t> rows;
  std::vector<float*> alphas, betas;
  std::vector<std::size_t> splits;
  for (index_t const r : over) {
    auto const& task = tasks[work.id[r]];
    if (!(work.best[r] > -std::numeric_limits<double>::infinity())) {  // none were kept
      task.end_at_start(p.width);
      continue;
    }
    rows.push_back(r);
    alphas.push_back(task.alpha);
    betas.push_back(task.beta);
    splits.push_back(task.splits.size());
  }
  machine.read_rows(p.alpha_best, p.width, rows,
                    [&](std::size_t i, float const* row) { std::copy_n(row, p.width, alphas[i]); });
  if (p.splits == 0) return;
  machine.read_rows(p.beta_best, p.splits, rows, [&](std::size_t i, float const* row) {
    if (betas[i] != nullptr) std::copy_n(row, splits[i], betas[i]);
  });
}

}  // namespace hull
