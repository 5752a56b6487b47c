// SPDX-License-Identifier: Apache-2.0
// Loops over all cores. OpenMP where the compiler was asked for it, one thread otherwise.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace hull::cpu {

[[nodiscard]] inline std::size_t thread_count() {
#ifdef _OPENMP
  return static_cast<std::size_t>(omp_get_max_threads());
#else
  return 1;
#endif
}

/// Number of the calling thread inside a parallel loop.
[[nodiscard]] inline std::size_t thread_number() {
#ifdef _OPENMP
  return static_cast<std::size_t>(omp_get_thread_num());
#else
  return 0;
#endif
}

/// Calls body(i) for i = 0 .. count - 1, in any order, from several threads. `work` is a rough number of operations per
/// call: small loops stay on one thread, where they are faster.
template <class Body>
void parallel_for(std::size_t count, std::size_t work, Body&& body) {
#ifdef _OPENMP
  if (count > 1 && count * work > 20000 && !omp_in_parallel()) {
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t i = 0; i < count; ++i) body(i);
    return;
  }
#endif
  static_cast<void>(work);
  for (std::size_t i = 0; i < count; ++i) body(i);
}

/// The same for ranges: body(first, last) on about equal parts of [0, count), each but the last a multiple of `grain`.
template <class Body>
void parallel_ranges(std::size_t count, std::size_t grain, std::size_t work, Body&& body) {
  std::size_t const parts = (count + grain - 1) / grain;
  std::size_t const per = parts == 0 ? 1 : (parts + 4 * thread_count() - 1) / (4 * thread_count());
  std::size_t const blocks = (parts + per - 1) / per;
  parallel_for(blocks, work * grain * per, [&](std::size_t i) {
    std::size_t const first = i * per * grain, last = first + per * grain;
    body(first, last < count ? last : count);
  });
}

/// Calls body(i, thread number) for i = 0 .. count - 1: tasks long enough for a thread each, whose own loops then stay
/// on that thread. At most `threads` take part, with numbers below that. After an exception no further task starts; the
/// first one is thrown again at the end.
template <class Body>
void parallel_tasks(std::size_t count, std::size_t threads, Body&& body) {
  std::exception_ptr first;
  std::atomic<bool> failed = false;
  std::atomic<std::size_t> next = 0;
  auto const work = [&](std::size_t thread) {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      try {
        body(i, thread);
      } catch (...) {
        if (!failed.exchange(true)) first = std::current_exception();
      }
    }
  };
#ifdef _OPENMP
  if (count > 1 && threads > 1 && !omp_in_parallel()) {
#pragma omp parallel
    if (thread_number() < threads)
      work(thread_number());  // a team of another size would end threads and begin new ones
    if (first) std::rethrow_exception(first);
    return;
  }
#endif
  work(0);
  if (first) std::rethrow_exception(first);
}

}  // namespace hull::cpu
