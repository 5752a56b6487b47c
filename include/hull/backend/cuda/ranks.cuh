// SPDX-License-Identifier: Apache-2.0
// Collectives on device memory for every communicator: in the order of a stream where it has them (Nccl), else through
// host memory (ranks that share a GPU, ranks of MPI).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <cuda_runtime.h>
#include <memory>
#include <utility>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/shard/communicator.hpp>

namespace hull::cuda {

/// What collectives on device memory have cost one rank.
struct device_cost final {
  std::size_t calls = 0;
  std::size_t bytes = 0;  // received from other ranks
  double seconds = 0;     // in which they were under way, waiting for other ranks included
  double exposed = 0;     // of which a stream of computations stood still

  device_cost& operator+=(device_cost const& more) {
    calls += more.calls;
    bytes += more.bytes;
    seconds += more.seconds;
    exposed += more.exposed;
    return *this;
  }
};

/// Seconds between pairs of events, summed up later: nothing waits for the device when they are recorded.
class stopwatch_events final {
 public:
  stopwatch_events() = default;
  stopwatch_events(stopwatch_events const&) = delete;
  stopwatch_events& operator=(stopwatch_events const&) = delete;
  ~stopwatch_events() {
    for (auto const& [begin, end] : pairs_) {
      cudaEventDestroy(begin);
      cudaEventDestroy(end);
    }
  }

  /// Whether the next call of time() adds up what is there, and waits for it.
  [[nodiscard]] bool full() const { return used_ == most; }

  template <class Work>
  void time(cudaStream_t stream, Work&& work) {
    if (full()) static_cast<void>(seconds());
    if (used_ == pairs_.size()) pairs_.emplace_back(make(), make());
    auto const [begin, end] = pairs_[used_++];
    check(cudaEventRecord(begin, stream), "event");
    work();
    check(cudaEventRecord(end, stream), "event");
  }
  /// Of all pairs so far. Waits for them.
  [[nodiscard]] double seconds() {
    for (std::size_t i = 0; i < used_; ++i) {
      float milliseconds = 0;
      check(cudaEventSynchronize(pairs_[i].second), "event");
      check(cudaEventElapsedTime(&milliseconds, pairs_[i].first, pairs_[i].second), "event");
      sum_ += 1e-3 * static_cast<double>(milliseconds);
    }
    used_ = 0;
    return sum_;
  }

 private:
  static constexpr std::size_t most = 1024;
  static cudaEvent_t make() {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "event");
    return event;
  }

  std::vector<std::pair<cudaEvent_t, cudaEvent_t>> pairs_;
  std::size_t used_ = 0;
  double sum_ = 0;
};

/// One thread of one rank uses it. The communicator is borrowed.
template <Communicator C>
class device_ranks final {
 public:
  /// Whether collectives return at once.
  static constexpr bool in_stream = DeviceCommunicator<C, cudaStream_t>;

  explicit device_ranks(C& ranks) : ranks_(&ranks) {
    if constexpr (!in_stream) {
      void* block = nullptr;
      check(cudaMallocHost(&block, staging_bytes), "page-locked memory for messages");
      pinned_.reset(static_cast<std::byte*>(block));
    }
  }

  [[nodiscard]] std::size_t rank() const { return ranks_->rank(); }
  [[nodiscard]] std::size_t size() const { return ranks_->size(); }

  /// `all` [size, count] gets every rank's `part` [count]. In place where part == all + rank * count.
  void all_gather(float const* part, float* all, std::size_t count, cudaStream_t stream) {
    std::size_t const bytes = count * sizeof(float);
    note((size() - 1) * bytes, stream, [&] {
      auto const* const from = reinterpret_cast<std::byte const*>(part);
      auto* const to = reinterpret_cast<std::byte*>(all);
      if constexpr (in_stream) {
        ranks_->all_gather_device(from, to, bytes, stream);
      } else {
        std::size_t const most = staging_bytes / size();
        for (std::size_t done = 0; done < bytes; done += most) {
          std::size_t const now = std::min(most, bytes - done);
          std::byte* const own = pinned_.get() + rank() * now;
          copy(own, from + done, now, cudaMemcpyDeviceToHost, stream);
          finish(stream);
          ranks_->all_gather(own, pinned_.get(), now);
          for (std::size_t r = 0; r < size(); ++r) {
            copy(to + r * bytes + done, pinned_.get() + r * now, now, cudaMemcpyHostToDevice, stream);
          }
          finish(stream);  // the next piece takes the same place
        }
      }
    });
  }

  /// `values` become sums over the ranks, added up in their order: the same bits on each.
  template <class T>
  void sum(T* values, std::size_t count, cudaStream_t stream) {
    if (count == 0) return;
    note(2 * (size() - 1) * count * sizeof(T) / size(), stream, [&] {
      if constexpr (in_stream) {
        ranks_->sum_device(values, count, stream);
      } else {
        auto* const staged = reinterpret_cast<T*>(pinned_.get());
        constexpr std::size_t most = staging_bytes / sizeof(T);
        for (std::size_t done = 0; done < count; done += most) {
          std::size_t const now = std::min(most, count - done);
          copy(staged, values + done, now * sizeof(T), cudaMemcpyDeviceToHost, stream);
          finish(stream);
          ranks_->sum(staged, now);
          copy(values + done, staged, now * sizeof(T), cudaMemcpyHostToDevice, stream);
          finish(stream);
        }
      }
    });
  }

  /// Waits for the work of a stream that may hold collectives. Throws hull::error if it will never end.
  void finish(cudaStream_t stream) {
    if constexpr (in_stream) {
      ranks_->finish(stream);
    } else {
      check(cudaStreamSynchronize(stream), "a kernel");
    }
  }

  /// Waits for what is under way. `exposed` is all of `seconds` here: who collects ahead of use knows better.
  [[nodiscard]] device_cost cost() {
    cost_.seconds = cost_.exposed = events_.seconds();
    return cost_;
  }

 private:
  static constexpr std::size_t staging_bytes = std::size_t{4} << 20;

  template <class Work>
  void note(std::size_t bytes, cudaStream_t stream, Work&& work) {
    ++cost_.calls;
    cost_.bytes += bytes;
    if (events_.full()) finish(stream);
    events_.time(stream, work);
  }
  static void copy(void* to, void const* from, std::size_t bytes, cudaMemcpyKind way, cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from, bytes, way, stream), "copy");
  }

  C* ranks_;
  std::unique_ptr<std::byte, pinned_free> pinned_;
  stopwatch_events events_;
  device_cost cost_;
};

/// The device's way to the other ranks of a member; `type` says nothing of one that is alone.
template <class Member>
struct ranks_of_member final {
  struct type final {};
  static type make(Member const& /*member*/) { return {}; }
};
template <class Member>
requires requires { typename Member::communicator; }
struct ranks_of_member<Member> final {
  using type = device_ranks<typename Member::communicator>;
  static type make(Member const& member) { return type(member.others()); }
};

}  // namespace hull::cuda
