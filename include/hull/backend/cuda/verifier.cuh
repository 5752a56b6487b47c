// SPDX-License-Identifier: Apache-2.0
// The verifier of a network with bounds on the GPU, one rank.
#pragma once

#include <cstddef>
#include <string>

#include <hull/backend/cpu/divided_machine.hpp>
#include <hull/backend/cuda/backend.cuh>
#include <hull/search/verifier.hpp>
#include <hull/shard/home.hpp>

namespace hull::cuda {

/// The GPU with its host beside it, for on<> (shard/on.hpp): bounds and branch and bound over kinks are computed on the
/// GPU; attack and input splitting, which read its memory all the time, on the host. `P`: of cuda::machine.
template <class P = Fp32>
struct with_host final {
  template <Network Net, class R, class Member>
  using machine = typename backend_with<P>::template machine<Net, R, Member>;
  template <Network Net, class R, class Member>
  using host_machine = cpu::backend::machine<Net, R, Member>;

  /// Of the current device.
  [[nodiscard]] static std::string device_name() {
    int number = 0;
    cudaDeviceProp facts{};
    check(cudaGetDevice(&number), "current device");
    check(cudaGetDeviceProperties(&facts, number), "name of the device");
    return facts.name;
  }

  [[nodiscard]] static std::size_t driver_bytes() { return cuda::driver_bytes(); }
};

/// Construct it with a parameter_source (search/engine.hpp).
template <Network Net, class R = Outward, class P = Fp32>
using verifier = hull::verifier<Net, home<Net, on<with_host<P>>, R>>;

}  // namespace hull::cuda
