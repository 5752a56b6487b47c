// SPDX-License-Identifier: Apache-2.0
// Numbers of a test in device memory.
#pragma once

#include <cstddef>
#include <vector>

#include <hull/backend/cuda/device.cuh>

namespace hull::reference {

/// A copy on the device of numbers of the host.
template <class T>
class uploaded final {
 public:
  explicit uploaded(std::vector<T> const& from) : count_(from.size()), block_(cuda::allocate<T>(from.size())) {
    if (count_ > 0) {
      cuda::check(cudaMemcpy(block_.get(), from.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "upload");
    }
  }
  [[nodiscard]] T* get() const { return block_.get(); }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> to(count_);
    cuda::check(cudaDeviceSynchronize(), "a kernel");
    if (count_ > 0) {
      cuda::check(cudaMemcpy(to.data(), block_.get(), count_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    }
    return to;
  }

 private:
  std::size_t count_;
  cuda::device_block<T> block_;
};

}  // namespace hull::reference
