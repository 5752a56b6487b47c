// SPDX-License-Identifier: Apache-2.0
// A network on one rank: its part of the parameters, and the machines that bound and attack with it.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <fstream>
#include <string>
#include <type_traits>
#include <unistd.h>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/scalar/rounding.hpp>
#include <hull/search/verdict.hpp>
#include <hull/shard/on.hpp>

namespace hull {

/// What a verifier lives in. `On` is an on<...>; `R` the rounding of the bounds.
template <Network Net, class On, class R>
class home final {
 public:
  using communicator = typename On::communicator;
  using machine_type = typename On::template machine<Net, R>;              // bounds, and searches over kinks
  using host_type = typename On::template host_machine<Net, R>;            // searches over inputs
  using attacker_type = typename On::template host_machine<Net, Nearest>;  // points and their gradients
  using member_type = typename On::template member<Net>;

  /// Whether searches over inputs have another kind of memory.
  static constexpr bool host_apart = !std::same_as<host_type, machine_type>;

  /// Borrows `ranks`. All ranks do so together.
  template <class Source>
  home(Source const& source, communicator& ranks)
      : ranks_(&ranks),
        weights_(On::template load<Net>(source, ranks)),
        member_(On::template join<Net>(weights_, ranks)),
        driver_before_(driver_bytes()),
        machine_(member_) {}

  /// The same for a rank that is alone.
  template <class Source>
  explicit home(Source const& source) : home(source, alone()) {}

  home(home const&) = delete;  // the machines borrow the weights
  home& operator=(home const&) = delete;
  ~home() = default;

  [[nodiscard]] machine_type& machine() { return machine_; }

  /// For further machines.
  [[nodiscard]] member_type const& member() const { return member_; }

  /// All ranks will stop at the deadline together.
  void agree(deadline& end) const {
    if (member_.several()) end.agree([ranks = ranks_](bool mine) { return ranks->any(mine ? 1U : 0U) != 0; });
  }

  /// What every rank holds. A collective.
  [[nodiscard]] std::vector<rank_memory> memory(std::size_t planned, std::size_t peak, std::size_t search = 0) const {
    rank_memory self = weights_bytes();
    self.planned = planned;
    self.peak = peak;
    self.search = search;
    self.resident = resident_bytes();
    self.driver = std::max(driver_bytes(), driver_before_) - driver_before_;
    std::vector<rank_memory> all(ranks_->size());
    ranks_->all_gather(reinterpret_cast<std::byte const*>(&self), reinterpret_cast<std::byte*>(all.data()),
                       sizeof self);
    return all;
  }

  /// Of the device on which bounds are computed; empty: the host.
  [[nodiscard]] static std::string device_name() {
    if constexpr (requires { On::backend::device_name(); }) return On::backend::device_name();
    return {};
  }

 private:
  /// What the device's driver has given out, to whomever.
  static std::size_t driver_bytes() {
    if constexpr (requires { On::backend::driver_bytes(); }) return On::backend::driver_bytes();
    return 0;
  }

  static communicator& alone() {
    static communicator self;
    return self;
  }

  [[nodiscard]] rank_memory weights_bytes() const {
    rank_memory self;
    if constexpr (requires { typename On::template weights<Net>::sharded; }) {
      auto const bytes = held_bytes<Net, machine_type>(ranks_->size());
      self.parameters = bytes.at_rest();
      self.buffers = bytes.buffers;
    } else {
      self.parameters = parameters<Net>::size * sizeof(float);
    }
    return self;
  }

  static std::size_t resident_bytes() {
    std::size_t all = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  }

  communicator* ranks_;
  typename On::template weights<Net> weights_;
  member_type member_;
  std::size_t driver_before_;  // before there is a machine
  machine_type machine_;
};

}  // namespace hull
