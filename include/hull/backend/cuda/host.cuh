// SPDX-License-Identifier: Apache-2.0
// What a CUDA machine is apart from its steps: a block of device memory, a stream, and the way to and from the host.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/scores.cuh>
#include <hull/backend/cuda/transfer.cuh>
#include <hull/core/arena.hpp>
#include <hull/propagate/state.hpp>
#include <hull/shard/ranked.hpp>

namespace hull::cuda {

template <class Member>
class host : public ranked<Member> {
 public:
  host(Member member, std::size_t counters) : ranked<Member>(member), device_(counters) {
    if constexpr (requires(cudaStream_t s) { member.others().finish(s); }) {
      device_.wait_by([&ranks = member.others()](cudaStream_t stream) { ranks.finish(stream); });
    }
  }

  host(host const&) = delete;
  host& operator=(host const&) = delete;
  ~host() {
    try {
      device_.finish();  // else freeing memory would wait for a collective that never ends
    } catch (std::exception const&) {
    }
  }

  /// One block for everything that follows. Contents of the old block are lost.
  void reserve(std::size_t bytes) {
    if (bytes > memory_.capacity()) {
      device_.finish();
      memory_ = {};  // where there is not so much, the next call finds no block
      block_.reset();
      block_ = allocate<std::byte>(bytes);
    }
    memory_ = arena(block_.get(), std::max(bytes, memory_.capacity()));
  }
  [[nodiscard]] arena& memory() { return memory_; }

  // Between host and device; see Machine (propagate/machine.hpp).
  [[nodiscard]] double const* bounds(row_block const& rows) const {
    host_bounds_.resize(rows.count);
    device_.read(host_bounds_.data(), rows.bound, rows.count);
    return host_bounds_.data();
  }
  template <class T>
  void read(T* to, T const* from, std::size_t count) const {
    device_.read(to, from, count);
  }
  template <class T>
  void write(T* to, T const* from, std::size_t count) const {
    device_.write(to, from, count);
  }
  /// A copy of a state, which lies at the beginning of the arena, that the host can read. The next call overwrites it.
  template <class State>
  [[nodiscard]] State on_host(State const& state) const {
    std::size_t const bytes = State::bytes(state.batch);
    mirror_.resize(bytes / sizeof(double) + 1);
    device_.read(reinterpret_cast<std::byte*>(mirror_.data()), block_.get(), bytes);
    arena memory(reinterpret_cast<std::byte*>(mirror_.data()), bytes);
    State copy;
    copy.carve(memory, state.batch);
    for (std::size_t k = 0; k < copy.stage.size(); ++k) copy.stage[k].live_count = state.stage[k].live_count;
    return copy;
  }
  template <class T>
  void clear(T* numbers, std::size_t count) const {
    device_.clear(numbers, count);
  }
  [[nodiscard]] float const* fetch(float const* from, std::size_t count, std::vector<float>& buffer) const {
    buffer.resize(count);
    device_.read(buffer.data(), from, count);
    return buffer.data();
  }
  /// `f` calls nothing of this machine.
  template <class T, class F>
  void read_rows(float const* from, std::size_t width, std::span<index_t const> rows, F&& f) const {
    cuda::read_rows<T>(device_, from, width, rows, f);
  }
  template <class T>
  void write_rows(float* to, std::size_t width, std::span<T const* const> sources) const {
    cuda::write_rows<T>(device_, to, width, sources);
  }

  /// Neurons that rows might split: ended_rows::score.
  template <Network Net>
  void score_rows(network_state<Net> const& state, free_state<Net> const& free, free_rows const& parameters,
                  coefficient_views<Net> const& a, std::span<index_t const> rows,
                  std::array<bool, stage_count<Net>> const& stages, std::span<split_candidates> found) const {
    cuda::score_rows<Net>(device_, state, free, parameters, a, rows, stages, found);
  }

  /// Calls body(i) for i = 0 .. count - 1 on the threads of the host, each about `work` operations.
  template <class Body>
  static void for_each(std::size_t count, std::size_t work, Body&& body) {
    cpu::parallel_ranges(count, 16, work, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) body(i);
    });
  }

  [[nodiscard]] static std::size_t threads() { return 1; }
  [[nodiscard]] static std::size_t workers(Member const& /*member*/) { return 1; }
  template <class Body>
  static void side_by_side(std::size_t count, std::size_t /*workers*/, Body&& body) {
    for (std::size_t i = 0; i < count; ++i) body(i, std::size_t{0});
  }

 protected:
  [[nodiscard]] cudaStream_t stream() const { return device_.stream(); }

  device device_;

 private:
  device_block<std::byte> block_;
  arena memory_;
  mutable std::vector<double> host_bounds_;
  mutable std::vector<double> mirror_;
};

}  // namespace hull::cuda
