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
#include <hull/propagate/state.hpp>

namespace hull {

/// A specification row to be bounded in a domain: in goes where to start, out comes the best that was found.
struct form_task final {
  linear_constraint const* form = nullptr;
  std::span<split const> splits{};
  float* alpha = nullptr;                                 // [width] in [0, 1]
  float* beta = nullptr;                                  // [splits] >= 0, or unset_beta
  double goal = std::numeric_limits<double>::infinity();  // the row ends when its bound is greater
  double bound = -std::numeric_limits<double>::infinity();
};

/// What an optimiser sees of a row that ends: its coefficients at the output of every stage, and, at the input, which
/// corner of the box minimises it.
template <Network Net>
struct row_view final {
  network_state<Net> const* state;
  free_state<Net> const* free;
  coefficient_views<Net> const* a;
  std::size_t row;

  [[nodiscard]] float const* coefficients(std::size_t k) const {
    return (*a)[k] == nullptr ? nullptr : (*a)[k] + row * state->stage[k].live_count;
  }
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

  /// Notes the new bounds. Returns whether the row's bound is better than all before.
  bool improve(std::size_t r, ascent const& how) {
    double const bound = rows.bound[r];
    bool const better = bound > best[r];  // false for NaN
    since[r] = better ? 0 : since[r] + 1;
    if (better) best[r] = bound;
    if (since[r] >= how.patience) done[r] = 1;
    return better;
  }

  /// Moves the rows that go on to the front.
  void compact() {
    std::size_t to = 0;
    for (std::size_t r = 0; r < rows.count; ++r) {
      if (done[r]) continue;
      if (to != r) {
        rows.box[to] = rows.box[r];
        rows.index[to] = rows.index[r];
        rows.sign[to] = rows.sign[r];
        parameters.move(to, r);
        id[to] = id[r];
        best[to] = best[r];
        since[to] = since[r];
        done[to] = 0;
      }
      ++to;
    }
    rows.count = to;
  }

  /// Parameters and splits of a task, to row r.
  void load(std::size_t r, form_task const& task) const {
    auto const& p = parameters;
    std::copy_n(task.alpha, p.width, p.alpha + r * p.width);
    load_splits(r, task.splits);
    for (std::size_t q = 0; q < task.splits.size(); ++q) {
      p.beta[r * p.splits + q] = task.beta == nullptr ? unset_beta : task.beta[q];
    }
  }
  /// Splits alone.
  void load_splits(std::size_t r, std::span<split const> splits) const {
    auto const& p = parameters;
    p.split_count[r] = static_cast<index_t>(splits.size());
    for (std::size_t q = 0; q < splits.size(); ++q) {
      p.split_parameter[r * p.splits + q] = splits[q].parameter;
      p.split_sign[r * p.splits + q] = splits[q].sign;
    }
  }
};

}  // namespace hull
