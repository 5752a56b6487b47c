// SPDX-License-Identifier: Apache-2.0
// Ranks with a GPU each as a benchmark sees them: how they start, what they tell each other, and the lines of JSON that
// rank 0 prints.
#pragma once

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <memory>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/shard/metered.hpp>
#include <hull/shard/nccl.cuh>
#include <hull/shard/rendezvous.hpp>

namespace hull::bench {

/// Nccl that notes what its collectives on host memory cost; those on device memory are the machine's to note.
class noted_nccl final {
 public:
  explicit noted_nccl(Nccl& ranks) : ranks_(&ranks), noted_(ranks) {
    if (&ranks.background() != &ranks) behind_.reset(new noted_nccl(ranks.background()));
  }

  [[nodiscard]] std::size_t rank() const { return ranks_->rank(); }
  [[nodiscard]] std::size_t size() const { return ranks_->size(); }
  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) { noted_.all_gather(part, all, bytes); }
  void sum(float* values, std::size_t count) { noted_.sum(values, count); }
  void sum(double* values, std::size_t count) { noted_.sum(values, count); }
  [[nodiscard]] unsigned any(unsigned bits) { return noted_.any(bits); }
  void fail(std::string const& why) { ranks_->fail(why); }
  [[nodiscard]] std::string lost() const { return ranks_->lost(); }
  [[nodiscard]] noted_nccl& background() { return behind_ ? *behind_ : *this; }

  void all_gather_device(std::byte const* part, std::byte* all, std::size_t bytes, cudaStream_t stream) {
    ranks_->all_gather_device(part, all, bytes, stream);
  }
  void sum_device(float* values, std::size_t count, cudaStream_t stream) { ranks_->sum_device(values, count, stream); }
  void sum_device(double* values, std::size_t count, cudaStream_t stream) { ranks_->sum_device(values, count, stream); }
  void finish(cudaStream_t stream) { ranks_->finish(stream); }

  [[nodiscard]] communication_cost cost() const {
    communication_cost both = noted_.cost();
    if (!behind_) return both;
    both.calls += behind_->cost().calls;
    both.bytes += behind_->cost().bytes;
    both.seconds += behind_->cost().seconds;
    return both;
  }

 private:
  Nccl* ranks_;
  Metered<Nccl> noted_;
  std::unique_ptr<noted_nccl> behind_;
};
static_assert(DeviceCommunicator<noted_nccl, cudaStream_t>);

using clock_type = std::chrono::steady_clock;
inline double since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

using hull::cuda::check;
using hull::cuda::driver_bytes;

/// What every rank has, in their order.
template <class T, class Meeting>
std::vector<T> of_all(Meeting& meeting, T const& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(meeting.size());
  meeting.all_gather(reinterpret_cast<std::byte const*>(&mine), reinterpret_cast<std::byte*>(all.data()), sizeof mine);
  return all;
}

// JSON: NaN and infinities become null.

inline std::string text(char const* form, double value) {
  std::array<char, 40> room{};
  std::snprintf(room.data(), room.size(), form, value);
  return std::isfinite(value) ? room.data() : "null";
}
template <class List>
std::string list(char const* form, List const& values) {
  std::string all;
  for (auto const value : values) all += (all.empty() ? "" : ", ") + text(form, static_cast<double>(value));
  return "[" + all + "]";
}
inline std::string quoted(std::string const& words) {
  std::string safe;
  for (char const c : words) safe += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c < ' ' ? ' ' : c);
  return '"' + safe + '"';
}
inline void say(std::string const& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

/// Starts this program again with these arguments, once for each rank. Returns the exit status.
inline int start(std::size_t size, std::vector<char*> arguments) {
  std::uint16_t port = 0;
  {
    tcp::endpoint const any = tcp::resolve("127.0.0.1", tcp::in_seconds(1)).at(0);
    port = tcp::port_of(tcp::listen_at(any));
  }
  setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(port).c_str(), 1);
  arguments.push_back(nullptr);
  std::vector<pid_t> ranks(size);
  for (std::size_t r = 0; r < size; ++r) {
    setenv("RANK", std::to_string(r).c_str(), 1);
    setenv("LOCAL_RANK", std::to_string(r).c_str(), 1);
    if (posix_spawn(&ranks[r], "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) != 0) return 1;
  }
  int bad = 0;
  for (pid_t const one : ranks) {
    int status = 0;
    waitpid(one, &status, 0);
    bad += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
  }
  return bad == 0 ? 0 : 1;
}

}  // namespace hull::bench
