// SPDX-License-Identifier: Apache-2.0
// Neurons that a domain might split next, from its row's coefficients; where ranks divide neurons (TensorParallel),
// each lists its own and all agree.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/propagate/alpha.hpp>
#include <hull/propagate/ended_rows.hpp>
#include <hull/propagate/split_candidates.hpp>
#include <hull/search/domain.hpp>

namespace hull {

/// Neurons that might be split next, `none` behind the last.
using candidate_list = std::array<index_t, domain_store::candidates>;

[[nodiscard]] inline candidate_list no_candidates() {
  candidate_list list;
  list.fill(domain_store::none);
  return list;
}

/// Borrows both. Calls that name ranks are collectives of those that divide neurons, and free where none do.
template <Network Net, class M>
class candidate_finder final {
 public:
  candidate_finder(M& machine, row_climber<Net, M> const& climber) : machine_(&machine), climber_(&climber) {}

  /// Candidates of rows some[0], some[1], ... among the neurons that this rank speaks for, by the numbers that all
  /// ranks share.
  [[nodiscard]] std::vector<split_candidates> note(ended_rows<Net, M> const& rows,
                                                   std::span<std::size_t const> some) const {
    std::array<bool, stage_count<Net>> stages{};
    for (std::size_t k = 1; k < stages.size(); ++k) stages[k] = speaks_for(k);
    auto found = rows.score(some, stages);
    for (auto& one : found) {
      for (std::size_t i = 0; i < one.parameter.size(); ++i) one.parameter[i] = number_of(one.parameter[i]);
    }
    return found;
  }

  /// The candidates of rows that all ranks have noted. A collective of ranks that divide neurons.
  [[nodiscard]] std::vector<candidate_list> agree(std::span<split_candidates const> noted) const {
    std::vector<candidate_list> lists(noted.size(), no_candidates());
    std::vector<split_candidates> all(noted.begin(), noted.end());
    if (machine_->places() > 1) add_up(all);
    for (std::size_t i = 0; i < all.size(); ++i) static_cast<void>(all[i].merge(lists[i]));
    return lists;
  }

  /// Any neurons that are not split yet and that the row depends on.
  void note_any(row_view<Net, M> const& view, std::span<split const> splits, candidate_list& found) const {
    std::size_t count = 0;
    for (std::size_t k = 1; k < stage_count<Net>; ++k) {
      // a row that starts at a neuron ends before later stages, whose buffers it does not have
      float const* const a = speaks_for(k) ? view.coefficients(k) : nullptr;
      free_columns const& f = climber_->free().stage[k];
      std::vector<index_t> column(a == nullptr ? 0 : f.count);
      machine_->read(column.data(), f.column, column.size());
      for (std::size_t i = 0; i < column.size() && count < found.size(); ++i) {
        index_t const p = climber_->numbers().number(k, f.offset + i);
        if (a[column[i]] == 0) continue;
        if (std::none_of(splits.begin(), splits.end(), [&](split const& s) { return s.parameter == p; }))
          found[count++] = p;
      }
    }
  }

  /// As many as there is room for of the neurons that ranks have listed.
  [[nodiscard]] candidate_list join(candidate_list const& mine) const {
    if (machine_->places() == 1) return mine;
    std::vector<double> numbers(machine_->places() * mine.size(), 0.0);
    for (std::size_t i = 0; i < mine.size() && mine[i] != domain_store::none; ++i)
      numbers[machine_->place() * mine.size() + i] = mine[i] + 1.0;
    machine_->add_parts(numbers.data(), numbers.size());
    candidate_list all = no_candidates();
    auto to = all.begin();
    for (double const number : numbers) {
      if (number > 0 && to != all.end()) *to++ = static_cast<index_t>(number - 1);
    }
    return all;
  }

 private:
  /// Whether this rank lists the neurons of stage k: its own, and for all ranks the first those that all have.
  [[nodiscard]] bool speaks_for(std::size_t k) const {
    return machine_->place() == 0 || climber_->numbers().divides(k);
  }

  /// The number that all ranks have for a parameter of a row here.
  [[nodiscard]] index_t number_of(index_t p) const {
    auto const& stages = climber_->free().stage;
    for (std::size_t k = 1; k < stages.size(); ++k) {
      if (p >= stages[k].offset && p < stages[k].offset + stages[k].count) return climber_->numbers().number(k, p);
    }
    return p;
  }

  /// The best of all ranks.
  void add_up(std::vector<split_candidates>& noted) const {
    constexpr std::size_t pairs = 2 * split_candidates::each;  // of parameter and score, which is 0 where none is
    std::size_t const stride = noted.size() * pairs * 2;
    std::vector<double> numbers(machine_->places() * stride, 0.0);
    for (std::size_t i = 0; i < noted.size(); ++i) {
      std::array<std::size_t, 2> used{};
      double* const mine = numbers.data() + machine_->place() * stride + i * pairs * 2;
      noted[i].visit([&](std::size_t list, index_t p, float score) {
        double* const to = mine + 2 * (list * split_candidates::each + used[list]++);
        to[0] = p;
        to[1] = score;
      });
    }
    machine_->add_parts(numbers.data(), numbers.size());
    for (std::size_t i = 0; i < noted.size(); ++i) {
      noted[i] = {};
      for (std::size_t at = i * pairs * 2; at < numbers.size(); at += stride) {
        for (std::size_t c = 0; c < pairs; ++c) {
          noted[i].offer(c / split_candidates::each, static_cast<index_t>(numbers[at + 2 * c]),
                         static_cast<float>(numbers[at + 2 * c + 1]));
        }
      }
    }
  }

  M* machine_;
  row_climber<Net, M> const* climber_;
};

}  // namespace hull
