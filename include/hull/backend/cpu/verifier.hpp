// SPDX-License-Identifier: Apache-2.0
// The verifier of a network on the CPU, one rank.
#pragma once

#include <hull/backend/cpu/divided_machine.hpp>
#include <hull/search/verifier.hpp>
#include <hull/shard/home.hpp>

namespace hull::cpu {

/// Construct it with a parameter_source (search/engine.hpp).
template <Network Net, class R = Outward>
using verifier = hull::verifier<Net, home<Net, on<backend>, R>>;

}  // namespace hull::cpu
