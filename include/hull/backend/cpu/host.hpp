// SPDX-License-Identifier: Apache-2.0
// What a CPU machine is apart from its steps: a block of memory, threads, and a place among ranks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <hull/backend/cpu/alpha.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cpu/scores.hpp>
#include <hull/core/arena.hpp>
#include <hull/propagate/state.hpp>
#include <hull/shard/ranked.hpp>

namespace hull::cpu {

template <class Member>
class host : public ranked<Member> {
 public:
  explicit host(Member member) : ranked<Member>(member) {}

  /// One block for everything that follows. Contents of the old block are lost.
  void reserve(std::size_t bytes) {
    if (bytes > memory_.capacity()) {
      memory_ = {};  // where there is not so much, the next call finds no block
      block_.reset();
      block_.reset(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{arena::alignment})));
    }
    memory_ = arena(block_.get(), std::max(bytes, memory_.capacity()));
  }
  [[nodiscard]] arena& memory() { return memory_; }

  // What the steps have written is on the host already.
  [[nodiscard]] static double const* bounds(row_block const& rows) { return rows.bound; }
  template <class T>
  static void read(T* to, T const* from, std::size_t count) {
    std::copy_n(from, count, to);
  }
  template <class T>
  static void write(T* to, T const* from, std::size_t count) {
    std::copy_n(from, count, to);
  }
  /// A state that the host can read, as it is now.
  template <class State>
  [[nodiscard]] static State const& on_host(State const& state) {
    return state;
  }
  template <class T>
  static void clear(T* numbers, std::size_t count) {
    std::fill_n(numbers, count, T{});
  }
  [[nodiscard]] static float const* fetch(float const* from, std::size_t /*count*/, std::vector<float>& /*buffer*/) {
    return from;
  }
  template <class T, class F>
  static void read_rows(float const* from, std::size_t width, std::span<index_t const> rows, F&& f) {
    std::vector<T> packed(std::is_same_v<T, float> ? 0 : width);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      float const* const row = from + rows[i] * width;
      if constexpr (std::is_same_v<T, float>) {
        f(i, row);
      } else {
        std::transform(row, row + width, packed.begin(), pack_alpha);
        f(i, packed.data());
      }
    }
  }
  static void write_rows(float* to, std::size_t width, std::span<float const* const> sources) {
    for (std::size_t r = 0; r < sources.size(); ++r) std::copy_n(sources[r], width, to + r * width);
  }
  static void write_rows(float* to, std::size_t width, std::span<packed_alpha const* const> sources) {
    for (std::size_t r = 0; r < sources.size(); ++r) {
      std::transform(sources[r], sources[r] + width, to + r * width, unpack_alpha);
    }
  }

  /// Neurons that rows might split: ended_rows::score.
  template <Network Net>
  static void score_rows(network_state<Net> const& state, free_state<Net> const& free, free_rows const& parameters,
                         coefficient_views<Net> const& a, std::span<index_t const> rows,
                         std::array<bool, stage_count<Net>> const& stages, std::span<split_candidates> found) {
    cpu::score_rows<Net>(state, free, parameters, a, rows, stages, found);
  }

  /// CROWN's own parameters of one stage for all rows.
  static void start_rows(free_columns const& f, free_rows const& parameters, std::size_t rows) {
    cpu::start_rows(f, parameters, rows);
  }
  /// Row from[i] becomes row i; from[i] >= i, rising.
  static void move_rows(row_block const& rows, free_rows const& parameters, std::span<index_t const> from) {
    cpu::move_rows(rows, parameters, from);
  }
  /// After an evaluation of rows with `progress`; `final`: that was the last one.
  static void note_bounds(row_block const& rows, free_rows const& parameters, std::size_t patience, bool final) {
    cpu::note_bounds(rows, parameters, patience, final);
  }
  /// The same for pairs of rows of hidden neurons. `gains`: after mark_gaining.
  static void note_pairs(row_block const& rows, free_rows const& parameters, std::size_t patience, bool gains) {
    cpu::note_pairs(rows, parameters, patience, gains);
  }
  /// Steps of optimised rows after which the host looks which have ended: looking is free here.
  static constexpr std::size_t steps_at_once = 1, work_at_once = ~std::size_t{0};

  /// Calls body(i) for i = 0 .. count - 1 on the threads of the host, each about `work` operations.
  template <class Body>
  static void for_each(std::size_t count, std::size_t work, Body&& body) {
    parallel_ranges(count, 16, work, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) body(i);
    });
  }

  [[nodiscard]] static std::size_t threads() { return thread_count(); }

  /// Threads that may each drive a machine of their own at the same time. One where steps must agree with other ranks'.
  [[nodiscard]] static std::size_t workers(Member const& member) { return member.concurrent() ? thread_count() : 1; }

  /// Calls body(i, worker) for i = 0 .. count - 1 from so many of those threads. `body` may throw; all calls end before
  /// it returns.
  template <class Body>
  static void side_by_side(std::size_t count, std::size_t workers, Body&& body) {
    parallel_tasks(count, workers, std::forward<Body>(body));
  }

 private:
  struct release {
    void operator()(std::byte* block) const { ::operator delete (block, std::align_val_t{arena::alignment}); }
  };

  std::unique_ptr<std::byte, release> block_;
  arena memory_;
};

}  // namespace hull::cpu
