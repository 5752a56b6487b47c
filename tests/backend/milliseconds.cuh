// SPDX-License-Identifier: Apache-2.0
// How long kernels take.
#pragma once

#include <algorithm>
#include <cuda_runtime.h>
#include <vector>

#include <hull/backend/cuda/device.cuh>

namespace hull::reference {

/// Median of ten, by events on the default stream, after two to warm up.
template <class F>
double milliseconds(F&& work) {
  cudaEvent_t start, stop;
  cuda::check(cudaEventCreate(&start), "event"), cuda::check(cudaEventCreate(&stop), "event");
  std::vector<float> times;
  for (int i = 0; i < 12; ++i) {
    cuda::check(cudaEventRecord(start), "event");
    work();
    cuda::check(cudaEventRecord(stop), "event");
    cuda::check(cudaEventSynchronize(stop), "event");
    float time = 0;
    cuda::check(cudaEventElapsedTime(&time, start, stop), "event");
    if (i >= 2) times.push_back(time);  // two to warm up
  }
  cudaEventDestroy(start), cudaEventDestroy(stop);
  std::sort(times.begin(), times.end());
  return (times[4] + times[5]) / 2;
}

}  // namespace hull::reference
