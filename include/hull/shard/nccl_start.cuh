// SPDX-License-Identifier: Apache-2.0
// What ranks do before NCCL starts: each takes a device, and all get the ids of the communicators.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cuda_runtime.h>
#include <nccl.h>
#include <string>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/shard/any_communicator.hpp>

namespace hull::detail {

/// A device: its number here, and its UUID.
struct taken_device final {
  int number = 0;
  std::array<char, 16> uuid{};
};

/// The device of a rank that is number `local` of its host, made current. Throws hull::error if there is none.
[[nodiscard]] inline taken_device take_device(std::size_t local) {
  auto const check = [](cudaError_t found, char const* what) {
    if (found != cudaSuccess)
      throw error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(found), fault::device);
  };
  int count = 0;
  cudaError_t const found = cudaGetDeviceCount(&count);
  check(found == cudaSuccess && count == 0 ? cudaErrorNoDevice : found, "no device");
  taken_device device{static_cast<int>(local % static_cast<std::size_t>(count)), {}};
  cudaDeviceProp facts{};
  check(cudaSetDevice(device.number), "device");
  check(cudaGetDeviceProperties(&facts, device.number), "properties of the device");
  std::copy_n(facts.uuid.bytes, device.uuid.size(), device.uuid.begin());
  return device;
}

/// Rank 0's ids, for both communicators. Throws hull::error if two ranks have the same device. A collective.
[[nodiscard]] inline std::array<ncclUniqueId, 2> exchange_ids(AnyCommunicator& ranks, taken_device const& device) {
  struct card final {
    std::array<char, 16> device{};
    std::array<ncclUniqueId, 2> ids{};
  };
  card self{device.uuid, {}};
  for (auto& id : self.ids) {
    if (ranks.rank() != 0) continue;
    ncclResult_t const found = ncclGetUniqueId(&id);
    if (found != ncclSuccess) throw error(std::string("NCCL: id: ") + ncclGetErrorString(found), fault::device);
  }
  std::vector<card> all(ranks.size());
  ranks.all_gather(reinterpret_cast<std::byte const*>(&self), reinterpret_cast<std::byte*>(all.data()), sizeof self);
  for (std::size_t r = 0; r < all.size(); ++r) {
    for (std::size_t other = 0; other < r; ++other) {
      if (all[r].device != all[other].device) continue;
      throw error("ranks " + std::to_string(other) + " and " + std::to_string(r) +
                      " have the same GPU: NCCL needs one for each rank",
                  fault::device);
    }
  }
  return all[0].ids;
}

}  // namespace hull::detail
