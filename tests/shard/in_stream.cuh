// SPDX-License-Identifier: Apache-2.0
// Ranks of Loopback as a communicator with collectives on device memory: what only ranks with a GPU each have
// otherwise.
#pragma once

#include <cstddef>
#include <cuda_runtime.h>
#include <memory>
#include <string>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/shard/communicator.hpp>
#include <hull/shard/loopback.hpp>

namespace hull::reference {

class InStream final {
 public:
  explicit InStream(Loopback& ranks) : ranks_(&ranks) {
    if (&ranks.background() != &ranks) behind_ = std::make_unique<InStream>(ranks.background());
  }

  [[nodiscard]] std::size_t rank() const { return ranks_->rank(); }
  [[nodiscard]] std::size_t size() const { return ranks_->size(); }
  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) { ranks_->all_gather(part, all, bytes); }
  void sum(float* values, std::size_t count) { ranks_->sum(values, count); }
  void sum(double* values, std::size_t count) { ranks_->sum(values, count); }
  [[nodiscard]] unsigned any(unsigned bits) { return ranks_->any(bits); }
  void fail(std::string const& why) { ranks_->fail(why); }
  [[nodiscard]] InStream& background() { return behind_ ? *behind_ : *this; }

  void all_gather_device(std::byte const* part, std::byte* all, std::size_t bytes, cudaStream_t stream) {
    std::vector<std::byte> own(bytes), every(bytes * size());
    copy(own.data(), part, bytes, cudaMemcpyDeviceToHost, stream);
    ranks_->all_gather(own.data(), every.data(), bytes);
    copy(all, every.data(), every.size(), cudaMemcpyHostToDevice, stream);
  }
  void sum_device(float* values, std::size_t count, cudaStream_t stream) { add(values, count, stream); }
  void sum_device(double* values, std::size_t count, cudaStream_t stream) { add(values, count, stream); }
  static void finish(cudaStream_t stream) { hull::cuda::check(cudaStreamSynchronize(stream), "a kernel"); }

 private:
  static void copy(void* to, void const* from, std::size_t bytes, cudaMemcpyKind way, cudaStream_t stream) {
    hull::cuda::check(cudaMemcpyAsync(to, from, bytes, way, stream), "copy");
    finish(stream);
  }
  template <class T>
  void add(T* values, std::size_t count, cudaStream_t stream) {
    std::vector<T> own(count);
    copy(own.data(), values, count * sizeof(T), cudaMemcpyDeviceToHost, stream);
    ranks_->sum(own.data(), count);
    copy(values, own.data(), count * sizeof(T), cudaMemcpyHostToDevice, stream);
  }

  Loopback* ranks_;
  std::unique_ptr<InStream> behind_;
};

static_assert(DeviceCommunicator<InStream, cudaStream_t>);

}  // namespace hull::reference
