// SPDX-License-Identifier: Apache-2.0
// What a communicator over NCCL owns, and its one kernel.
#pragma once

#include <cstddef>
#include <cuda_runtime.h>
#include <memory>
#include <nccl.h>

namespace hull::detail {

/// own[i] becomes the sum of its values on all ranks, in the order of ranks. parts: [ranks, count], its own unused.
template <class T>
__global__ void add_in_order_kernel(T* own, T const* parts, std::size_t count, std::size_t rank, std::size_t ranks) {
  std::size_t const step = std::size_t{blockDim.x} * gridDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    T sum = 0;
    for (std::size_t r = 0; r < ranks; ++r) sum += r == rank ? own[i] : parts[r * count + i];
    own[i] = sum;
  }
}

struct nccl_release final {
  void operator()(ncclComm_t comm) const { ncclCommAbort(comm); }  // does not wait for others
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
struct nccl_free final {
  void operator()(std::byte* block) const { cudaFree(block); }
};
struct nccl_free_pinned final {
  void operator()(std::byte* block) const { cudaFreeHost(block); }
};

using nccl_comm = std::unique_ptr<ncclComm, nccl_release>;
using nccl_stream = std::unique_ptr<CUstream_st, nccl_release>;
using nccl_event = std::unique_ptr<CUevent_st, nccl_release>;
using nccl_memory = std::unique_ptr<std::byte, nccl_free>;
using nccl_pinned = std::unique_ptr<std::byte, nccl_free_pinned>;

}  // namespace hull::detail
