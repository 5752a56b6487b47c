// SPDX-License-Identifier: Apache-2.0
// A machine's place among ranks, as Machine (propagate/machine.hpp) asks for it: the same on every backend.
#pragma once

#include <cstddef>

#include <hull/core/deadline.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/share.hpp>

namespace hull {

template <class Member>
class ranked {
 public:
  using member_type = Member;

  explicit ranked(Member member) : member_(member) {}

  /// For further machines.
  [[nodiscard]] Member const& member() const { return member_; }

  [[nodiscard]] row_range share(std::size_t rows) const { return member_.share(rows); }
  [[nodiscard]] std::size_t most(std::size_t rows) const { return member_.most(rows); }
  [[nodiscard]] std::size_t rank() const { return member_.rank(); }
  [[nodiscard]] std::size_t ranks() const { return member_.ranks(); }
  [[nodiscard]] std::size_t parts() const { return member_.parts(); }
  [[nodiscard]] bool any(bool mine, deadline const& end) const { return member_.any(mine, end); }
  void poll(deadline const& end) const { member_.poll(end); }
  template <class T>
  void gather(T* numbers, std::size_t count) const {
    member_.gather(numbers, count);
  }
  /// Sums over the ranks that divide rows.
  template <class T>
  void add_ranks(T* numbers, std::size_t count) const {
    member_.add_ranks(numbers, count);
  }

  // Ranks that divide neurons: there are none but this (backend/cpu/divided_machine.hpp has others).
  [[nodiscard]] static std::size_t least(std::size_t number) { return number; }
  [[nodiscard]] static std::size_t place() { return 0; }
  [[nodiscard]] static std::size_t places() { return 1; }
  template <class T>
  static void add_parts(T* /*numbers*/, std::size_t /*count*/) {}
  template <class S>
  [[nodiscard]] static column_counts column_counts_of(std::size_t mine) {
    return {{mine}, 0};
  }

 protected:
  Member member_;
};

}  // namespace hull
