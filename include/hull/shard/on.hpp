// SPDX-License-Identifier: Apache-2.0
// The one place that binds where a network runs, how it is spread, and how ranks talk.
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include <hull/core/error.hpp>
#include <hull/net/divide.hpp>
#include <hull/net/parameters.hpp>
#include <hull/shard/communicator.hpp>
#include <hull/shard/member.hpp>
#include <hull/shard/policy.hpp>
#include <hull/shard/sharded_parameters.hpp>

namespace hull {

namespace detail {

/// What a rank holds, and its handle.
template <Network Net, Sharding S, Communicator C>
struct place;

template <Network Net, Communicator C>
struct place<Net, Replicated, C> final {
  using weights = parameters<Net>;
  using member = row_member<weights, C>;
};
template <Network Net>
struct place<Net, Replicated, Solo> final {
  using weights = parameters<Net>;
  using member = lone_member<Net>;
};
/// Of a network that is divided already: on<...>::network.
template <Network Net, Communicator C>
struct place<Net, TensorParallel, C> final {
  using weights = parameters<Net>;
  using member = divided_member<Net, C>;
};
template <Network Net, Communicator C>
struct place<Net, FullySharded, C> final {
  using weights = sharded_parameters<Net, C>;
  using member = row_member<weights, C>;
};

/// Of a backend that has another machine for the host's part of the work, that one.
template <class Backend, Network Net, class R, class Member>
struct host_machine_of final {
  using type = typename Backend::template machine<Net, R, Member>;
};
template <class Backend, Network Net, class R, class Member>
requires requires { typename Backend::template host_machine<Net, R, Member>; }
struct host_machine_of<Backend, Net, R, Member> final {
  using type = typename Backend::template host_machine<Net, R, Member>;
};

}  // namespace detail

/// `Backend` has  template <Network, Rounding, Member> class machine  and, if its machine cannot do what attacks and
/// input splitting ask for (they read its memory from the host),  template <...> class host_machine.
template <class Backend, Sharding S = Replicated, Communicator C = Solo>
struct on final {
  using backend = Backend;
  using sharding = S;
  using communicator = C;

  template <Network Net>
  using weights = typename detail::place<Net, S, C>::weights;
  template <Network Net>
  using member = typename detail::place<Net, S, C>::member;
  template <Network Net, class R>
  using machine = typename Backend::template machine<Net, R, member<Net>>;
  template <Network Net, class R>
  using host_machine = typename detail::host_machine_of<Backend, Net, R, member<Net>>::type;

  /// What one of P ranks computes of Net. Only TensorParallel changes it, and needs P at compile time.
  template <Network Net, std::size_t P>
  using network = std::conditional_t<std::same_as<S, TensorParallel>, divided<Net, P>, Net>;

  /// This rank's part of the parameters that `source(key)` returns. All ranks call it together.
  template <Network Net, class Source>
  [[nodiscard]] static weights<Net> load(Source const& source, C& ranks) {
    if constexpr (std::same_as<S, TensorParallel>) {
      expect(ranks.size() == Net::ranks, "TensorParallel: the network is divided for " + std::to_string(Net::ranks) +
                                             " ranks, there are " + std::to_string(ranks.size()));
      return weights<Net>(divided_source<Net, Source>(source, ranks.rank()));
    } else if constexpr (std::constructible_from<weights<Net>, Source const&, C&>) {
      return weights<Net>(source, ranks);
    } else {
      return weights<Net>(source);
    }
  }

  template <Network Net>
  [[nodiscard]] static member<Net> join(weights<Net> const& held, C& ranks) {
    if constexpr (std::constructible_from<member<Net>, weights<Net> const&, C&>) {
      return member<Net>(held, ranks);
    } else {
      return member<Net>(held);
    }
  }
};

}  // namespace hull
