// SPDX-License-Identifier: Apache-2.0
// Sums over a block, and moving the chosen elements of a list together, both in an order that never changes.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>

namespace hull::cuda {

/// Sum over the warp, in every lane.
[[nodiscard]] __device__ inline double warp_sum(double x) {
  for (unsigned step = warp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  return x;
}

/// Where block_sums leaves its N sums for all threads of the block, until the next call.
template <std::size_t N>
[[nodiscard]] __device__ inline double* sums_of() {
  __shared__ double sums[N];
  return sums;
}

/// Sums of N numbers over a block of `Threads` threads, valid in thread 0 and in sums_of<N>().
template <unsigned Threads, std::size_t N>
__device__ inline void block_sums(double (&x)[N]) {
  static_assert(Threads % warp == 0 && Threads / warp <= warp);
  __shared__ double parts[N][Threads / warp];
  double* const sums = sums_of<N>();
  unsigned const lane = threadIdx.x % warp, row = threadIdx.x / warp;
#pragma unroll
  for (std::size_t i = 0; i < N; ++i) {
    x[i] = warp_sum(x[i]);
    if (lane == 0) parts[i][row] = x[i];
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < N; i += Threads) {
    double sum = 0;
    for (unsigned w = 0; w < Threads / warp; ++w) sum += parts[i][w];
    sums[i] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (std::size_t i = 0; i < N; ++i) x[i] = sums[i];
  }
}

/// For one block of `Threads` threads that walks a list from its beginning: gives every thread whose `chosen` is set
/// the next free place, in the order of threads, and counts on. All threads of the block call it.
template <unsigned Threads>
class packer final {
 public:
  __device__ unsigned place(bool chosen) {
    __shared__ unsigned before[Threads / warp + 1];
    unsigned const lane = threadIdx.x % warp, row = threadIdx.x / warp;
    unsigned const votes = __ballot_sync(0xffffffffU, chosen);
    __syncthreads();  // the last call's numbers have been read
    if (lane == 0) before[row] = __popc(votes);
    __syncthreads();
    unsigned at = count_;
    unsigned all = 0;
    for (unsigned w = 0; w < Threads / warp; ++w) {
      if (w < row) at += before[w];
      all += before[w];
    }
    count_ += all;
    return at + __popc(votes & ((1U << lane) - 1));
  }
  [[nodiscard]] __device__ unsigned count() const { return count_; }

 private:
  unsigned count_ = 0;
};

/// Walks a list of `count` elements in one block: look(i) tells what is at i, in a type with a bool `wanted`, and
/// keep(place, found) is called for those that are, with places from 0 on, in order. Returns how many these are.
/// keep() may overwrite what look() reads: all of a tile is read before, and places are not behind it.
template <unsigned Threads, class Look, class Keep>
__device__ inline unsigned pack(std::size_t count, Look&& look, Keep&& keep) {
  constexpr unsigned reads = 4;  // elements that a thread looks at together: time is latency
  using found_type = decltype(look(std::size_t{0}));
  packer<Threads> places;
  for (std::size_t first = 0; first < count; first += reads * Threads) {
    found_type found[reads];
#pragma unroll
    for (unsigned k = 0; k < reads; ++k) {
      std::size_t const i = first + k * Threads + threadIdx.x;
      found[k] = i < count ? look(i) : found_type{};
    }
#pragma unroll
    for (unsigned k = 0; k < reads; ++k) {
      unsigned const place = places.place(found[k].wanted);  // synchronises
      if (found[k].wanted) keep(place, found[k]);
    }
  }
  return places.count();
}

}  // namespace hull::cuda
