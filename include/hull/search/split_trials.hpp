// SPDX-License-Identifier: Apache-2.0
// The look-ahead of kFSB (De Palma et al. 2021): both children of every candidate of a domain as rows that are bounded
// once, without steps, and the candidate whose children are best.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/propagate/climbing_chunk.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/share.hpp>
#include <hull/search/frontier.hpp>

namespace hull {

/// Of one round; the next one uses its memory again.
class split_trials final {
 public:
  /// Lists the candidates of these domains; those without any are `leaves`.
  void list(domain_store const& store, std::span<index_t const> taken, std::vector<index_t>& leaves) {
    taken_ = taken;
    parameter_.clear();
    of_.assign(taken.size(), {});
    first_.assign(taken.size(), 0);
    std::size_t numbers = 0;
    for (std::size_t d = 0; d < taken.size(); ++d) {
      auto const found = std::span(store.candidate).subspan(taken[d] * domain_store::candidates);
      of_[d].first = parameter_.size();
      for (std::size_t i = 0; i < domain_store::candidates && found[i] != domain_store::none; ++i) {
        parameter_.push_back(found[i]);
      }
      of_[d].last = parameter_.size();
      if (of_[d].size() == 0) leaves.push_back(taken[d]);
      first_[d] = numbers;
      numbers += 2 * of_[d].size() * (store.depth[taken[d]] + 1);
    }
    splits_.resize(numbers);
    betas_.resize(numbers);
    tasks_.resize(2 * parameter_.size());
  }

  /// Rows of the children, two for each trial: of the track nearest to a proof, from where it ended in the domain.
  /// task_of(slot, track): form, goal and start of it.
  template <class M, class TaskOf>
  [[nodiscard]] std::span<form_task> rows(M& machine, frontier& queue, TaskOf&& task_of) {
    machine.for_each(taken_.size(), 500, [&](std::size_t d) {
      auto& store = queue.store();
      index_t const slot = taken_[d], track = store.critical[slot];
      std::size_t const depth = store.depth[slot], each = depth + 1;
      for (std::size_t i = 0; i < 2 * of_[d].size(); ++i) {
        std::span<split> const splits(splits_.data() + first_[d] + i * each, each);
        float* const beta = betas_.data() + first_[d] + i * each;
        if (i == 0) {
          queue.tree().path(store.node[slot], splits.first(depth));
          for (std::size_t q = 0; q < depth; ++q) beta[q] = store.beta(slot, track, q);
        } else {
          std::copy_n(splits.data() - i * each, depth, splits.data());
          std::copy_n(beta - i * each, depth, beta);
        }
        splits[depth] = {parameter_[of_[d].first + i / 2], i % 2 == 0 ? 1.0f : -1.0f};
        beta[depth] = unset_beta;
        form_task& task = tasks_[2 * of_[d].first + i] = task_of(slot, track);
        task.splits = splits;
        task.beta = beta;
      }
    });
    return tasks_;
  }

  /// The domains that have candidates, and of each the one whose children have the best `bounds` [row].
  void choose(domain_store const& store, std::span<double const> bounds, std::vector<index_t>& parents,
              std::vector<index_t>& parameters) const {
    for (std::size_t d = 0; d < taken_.size(); ++d) {
      if (of_[d].size() == 0) continue;
      double const before = store.worst[taken_[d]];
      index_t best = parameter_[of_[d].first];
      double best_gain = -1;
      for (std::size_t i = of_[d].first; i < of_[d].last; ++i) {
        // a child that is proved is as good as it gets; the product wants progress in both
        double const least = 1e-4 * std::fabs(before);
        double const a = std::max(std::min(bounds[2 * i], 0.0) - before, least);
        double const b = std::max(std::min(bounds[2 * i + 1], 0.0) - before, least);
        if (a * b > best_gain) {
          best = parameter_[i];
          best_gain = a * b;
        }
      }
      parents.push_back(taken_[d]);
      parameters.push_back(best);
    }
  }

 private:
  std::span<index_t const> taken_;
  std::vector<index_t> parameter_;  // [trial]
  std::vector<row_range> of_;       // [domain] its trials
  std::vector<std::size_t> first_;  // [domain] where its rows' splits and multipliers begin
  std::vector<split> splits_;
  std::vector<float> betas_;
  std::vector<form_task> tasks_;  // [trial, child]
};

}  // namespace hull
