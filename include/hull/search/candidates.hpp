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
#include <hull/search/domain.hpp>
#include <hull/search/split.hpp>

namespace hull {

/// Neurons that might be split next, `none` behind the last.
using candidate_list = std::array<index_t, domain_store::candidates>;

[[nodiscard]] inline candidate_list no_candidates() {
  candidate_list list;
  list.fill(domain_store::none);
  return list;
}

using scored_candidates = split_candidates<domain_store::candidates / 2>;

/// Borrows both. Calls that name ranks are collectives of those that divide neurons, and free where none do.
template <Network Net, class M>
class candidate_finder final {
 public:
  candidate_finder(M& machine, row_climber<Net, M> const& climber) : machine_(&machine), climber_(&climber) {}

  /// Candidates of a row among the neurons that this rank speaks for.
  [[nodiscard]] scored_candidates note(row_view<Net> const& view, std::span<split const> splits) const {
    return find_candidates<domain_store::candidates / 2, Net>(view, splits, climber_->numbers(),
                                                              [this](std::size_t k) { return speaks_for(k); });
  }

  /// The candidates of rows that all ranks have noted. A collective of ranks that divide neurons.
  [[nodiscard]] std::vector<candidate_list> agree(std::span<scored_candidates const> noted) const {
    std::vector<candidate_list> lists(noted.size(), no_candidates());
    if (machine_->places() == 1) {
      for (std::size_t i = 0; i < noted.size(); ++i) static_cast<void>(noted[i].merge(lists[i]));
      return lists;
    }
    constexpr std::size_t each = domain_store::candidates;  // pairs of parameter and score, which is 0 where none is
    std::size_t const stride = noted.size() * each * 2;
    std::vector<double> numbers(machine_->places() * stride, 0.0);
    double* mine = numbers.data() + machine_->place() * stride;
    for (scored_candidates const& one : noted) {
      for (std::size_t i = 0; i < each; ++i, mine += 2) {
        if (i % (each / 2) >= one.count[i / (each / 2)]) continue;
        mine[0] = one.parameter[i];
        mine[1] = one.score[i];
      }
    }
    machine_->add_parts(numbers.data(), numbers.size());
    for (std::size_t i = 0; i < noted.size(); ++i) {
      scored_candidates all;
      for (std::size_t at = i * each * 2; at < numbers.size(); at += stride) {
        for (std::size_t c = 0; c < each; ++c) {
          all.offer(c / (each / 2), static_cast<index_t>(numbers[at + 2 * c]),
                    static_cast<float>(numbers[at + 2 * c + 1]));
        }
      }
      static_cast<void>(all.merge(lists[i]));
    }
    return lists;
  }

  /// Any neurons that are not split yet and that the row depends on.
  void note_any(row_view<Net> const& view, std::span<split const> splits, candidate_list& found) const {
    std::size_t count = 0;
    for (std::size_t k = 1; k < stage_count<Net>; ++k) {
      // a row that starts at a neuron ends before later stages, whose buffers it does not have
      float const* const a = speaks_for(k) ? view.coefficients(k) : nullptr;
      free_columns const& f = view.free->stage[k];
      for (std::size_t i = 0; a != nullptr && i < f.count && count < found.size(); ++i) {
        index_t const p = climber_->numbers().number(k, f.offset + i);
        if (a[f.column[i]] == 0) continue;
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

  M* machine_;
  row_climber<Net, M> const* climber_;
};

}  // namespace hull
