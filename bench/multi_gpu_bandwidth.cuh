// SPDX-License-Identifier: Apache-2.0
// How fast collectives between GPUs are: those that policies use, and NCCL's own sum beside them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <cuda_runtime.h>
#include <string>
#include <utility>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/shard/nccl.cuh>
#include <hull/shard/rendezvous.hpp>

#include "multi_gpu_ranks.cuh"

namespace hull::bench {

/// Seconds of one call, on the slowest rank.
template <class Call>
double seconds_of(Rendezvous& meeting, Nccl& ranks, cudaStream_t stream, std::size_t calls, Call&& call) {
  for (std::size_t i = 0; i < 3; ++i) call();
  ranks.finish(stream);
  static_cast<void>(ranks.any(0));
  auto const start = clock_type::now();
  for (std::size_t i = 0; i < calls; ++i) call();
  ranks.finish(stream);
  auto const all = of_all(meeting, since(start));
  return *std::max_element(all.begin(), all.end()) / static_cast<double>(calls);
}

/// GB/s that a rank receives, for results of some sizes. Rank 0 prints them.
inline void bandwidth(Rendezvous& meeting, Nccl& ranks) {
  auto const good = [](ncclResult_t found) {
    if (found != ncclSuccess) throw error(std::string("NCCL: ") + ncclGetErrorString(found), fault::device);
  };
  std::vector<std::byte> id(sizeof(ncclUniqueId));
  if (ranks.rank() == 0) good(ncclGetUniqueId(reinterpret_cast<ncclUniqueId*>(id.data())));
  id = meeting.broadcast(std::move(id));
  ncclUniqueId name{};
  std::memcpy(&name, id.data(), sizeof name);
  ncclComm_t plain = nullptr;
  good(ncclCommInitRank(&plain, static_cast<int>(ranks.size()), name, static_cast<int>(ranks.rank())));

  constexpr std::array<std::size_t, 5> mebibytes{1, 4, 16, 32, 256};
  constexpr std::size_t most = mebibytes.back() << 20;
  auto const memory = hull::cuda::allocate<float>(most / sizeof(float));
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  check(cudaMemsetAsync(memory.get(), 0, most, stream), "clear");
  std::array<std::vector<double>, 3> rates;
  for (std::size_t const size : mebibytes) {
    std::size_t const bytes = size << 20, part_bytes = bytes / ranks.size(), count = bytes / sizeof(float);
    auto* const all = reinterpret_cast<std::byte*>(memory.get());
    std::size_t const calls = size > 32 ? 10 : 50;
    double const gathered = seconds_of(meeting, ranks, stream, calls, [&] {
      ranks.all_gather_device(all + ranks.rank() * part_bytes, all, part_bytes, stream);
    });
    double const summed =
        seconds_of(meeting, ranks, stream, calls, [&] { ranks.sum_device(memory.get(), count, stream); });
    double const reduced = seconds_of(meeting, ranks, stream, calls, [&] {
      good(ncclAllReduce(memory.get(), memory.get(), count, ncclFloat32, ncclSum, plain, stream));
    });
    double const received = 1e-9 * static_cast<double>(part_bytes * (ranks.size() - 1));
    rates[0].push_back(received / gathered);
    rates[1].push_back(2 * received / summed);
    rates[2].push_back(2 * received / reduced);
  }
  ncclCommDestroy(plain);
  cudaStreamDestroy(stream);
  if (ranks.rank() != 0) return;
  say("{\"bandwidth\": \"GB/s received by a rank\", \"ranks\": " + std::to_string(ranks.size()) +
      ", \"mebibytes\": " + list("%.0f", mebibytes) + ", \"all_gather\": " + list("%.4g", rates[0]) +
      ", \"sum\": " + list("%.4g", rates[1]) + ", \"nccl_all_reduce\": " + list("%.4g", rates[2]) + "}");
}

}  // namespace hull::bench
