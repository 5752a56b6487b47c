// SPDX-License-Identifier: Apache-2.0
// This backend, for on<> (shard/on.hpp).
#pragma once

#include <type_traits>

#include <hull/backend/cuda/divided_machine.cuh>
#include <hull/backend/cuda/machine.cuh>
#include <hull/net/divide.hpp>

namespace hull::cuda {

namespace detail {

template <Network Net, class R, class Member, class P>
struct machine_of final {
  using type = machine<Net, R, Member, P>;
};
template <Network Net, class R, class Member, class P>
requires(ranks_of<Net> > 1) struct machine_of<Net, R, Member, P> final {
  using type = divided_machine<Net, R, Member, P>;
};

}  // namespace detail

/// Machines whose products have precision P.
template <class P>
struct backend_with final {
  template <Network Net, class R, class Member>
  using machine = typename detail::machine_of<Net, R, Member, P>::type;
};
using backend = backend_with<Fp32>;

}  // namespace hull::cuda
