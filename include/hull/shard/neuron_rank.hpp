// SPDX-License-Identifier: Apache-2.0
// One of several ranks that divide neurons (TensorParallel): what a machine does about it on the host, wherever its
// memory is. backend/cpu/divided_machine.hpp says which rank knows what.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include <hull/net/divide.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/share.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// `Machine`: of this rank's part of the network, with a Member (shard/member.hpp) `member_`.
template <Network Net, class Machine>
class neuron_rank : public Machine {
  using whole_net = typename Net::whole;

 public:
  using Machine::Machine;

  [[nodiscard]] std::size_t place() const { return this->member_.place(); }
  [[nodiscard]] std::size_t places() const { return this->member_.parts(); }
  /// Of numbers on the host.
  template <class T>
  void add_parts(T* numbers, std::size_t count) const {
    this->member_.sum(numbers, count);
  }
  template <class S>
  [[nodiscard]] column_counts column_counts_of(std::size_t mine) const {
    if constexpr (!has_role<S>(role::first)) return {{mine}, 0};
    return {counts_of_ranks(mine), place()};
  }

  /// The least number that any rank has.
  [[nodiscard]] std::size_t least(std::size_t number) const { return this->member_.least(number); }

  /// Of all ranks.
  template <class S>
  void head_bounds(network_state<Net> const& state, std::vector<float>& lower, std::vector<float>& upper) const {
    Machine::template head_bounds<S>(state, lower, upper);
    if constexpr (has_role<S>(role::first)) {
      for (auto* one : {&lower, &upper}) {
        std::vector<float> all(whole_size<S>(), 0.0f);
        std::size_t const before = std::min(place() * S::size, all.size());
        std::copy_n(one->begin(), valid<S>(), all.begin() + static_cast<std::ptrdiff_t>(before));
        this->member_.sum(all.data(), all.size());
        *one = std::move(all);
      }
    }
  }

 protected:
  /// Whether this rank counts what all have, and whether it counts the constants of stage S.
  [[nodiscard]] bool counts_for_all() const { return place() == 0; }
  template <class S>
  [[nodiscard]] bool counts() const {
    return has_role<S>(role::first) || counts_for_all();
  }

  /// Neurons of stage S in the whole network, and those of this rank that it has.
  template <class S>
  [[nodiscard]] static constexpr std::size_t whole_size() {
    return stage<whole_net, S::number>::size;
  }
  template <class S>
  [[nodiscard]] std::size_t valid() const {
    std::size_t const before = place() * S::size;
    return before < whole_size<S>() ? std::min(S::size, whole_size<S>() - before) : 0;
  }

  [[nodiscard]] std::vector<std::size_t> counts_of_ranks(std::size_t mine) const {
    std::vector<double> all(places(), 0.0);
    all[place()] = static_cast<double>(mine);
    this->member_.sum(all.data(), all.size());
    return {all.begin(), all.end()};
  }

  /// Numbers the candidates of all ranks, of which this one has `mine`. Returns how many there are.
  std::size_t number(std::size_t mine) {
    auto const counts = counts_of_ranks(mine);
    auto const own = counts.begin() + static_cast<std::ptrdiff_t>(place());
    std::size_t const before = std::accumulate(counts.begin(), own, std::size_t{0});
    own_ = {before, before + mine};
    return std::accumulate(own, counts.end(), before);
  }

  row_range own_;  // numbers of this rank's candidates
};

}  // namespace hull
