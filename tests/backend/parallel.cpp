// SPDX-License-Identifier: Apache-2.0
// Tasks on threads: each once, on no more threads than were asked for, and the first exception comes out.
#include <atomic>
#include <cstddef>
#include <doctest/doctest.h>
#include <stdexcept>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>

using namespace hull;

namespace {

/// So many threads, whatever the machine has, until the end of the scope.
class thread_limit final {
 public:
  explicit thread_limit([[maybe_unused]] int count) : before_(static_cast<int>(cpu::thread_count())) {
#ifdef _OPENMP
    omp_set_num_threads(count);
#endif
  }
  thread_limit(thread_limit const&) = delete;
  thread_limit& operator=(thread_limit const&) = delete;
  ~thread_limit() {
#ifdef _OPENMP
    omp_set_num_threads(before_);
#endif
  }

 private:
  [[maybe_unused]] int before_;
};

}  // namespace

TEST_CASE("every task runs once, on threads with numbers below the limit") {
  thread_limit const eight(8);
  for (std::size_t const threads : {1, 2, 3, 8, 100}) {
    for (std::size_t const count : {0, 1, 2, 7, 300}) {
      std::vector<std::atomic<int>> calls(count);
      std::atomic<std::size_t> largest = 0, running = 0, most = 0;
      cpu::parallel_tasks(count, threads, [&](std::size_t i, std::size_t thread) {
        std::size_t const now = ++running;
        for (std::size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        for (std::size_t seen = largest; thread > seen && !largest.compare_exchange_weak(seen, thread);) {
        }
        ++calls[i];
        --running;
      });
      CAPTURE(threads);
      CAPTURE(count);
      CHECK(largest < threads);
      CHECK(most <= threads);
      std::size_t once = 0;
      for (auto const& one : calls) once += one == 1 ? 1 : 0;
      CHECK(once == count);
    }
  }
}

TEST_CASE("an exception of a task comes out, and no task begins after it") {
  thread_limit const four(4);
  for (std::size_t const threads : {1, 2, 4}) {
    std::atomic<std::size_t> calls = 0;
    CHECK_THROWS_WITH_AS(cpu::parallel_tasks(1000, threads,
                                             [&](std::size_t i, std::size_t) {
                                               ++calls;
                                               if (i == 5) throw std::runtime_error("five");
                                             }),
                         "five", std::runtime_error);
    CHECK(calls >= 6);
    CHECK(calls <= 1000);
    if (threads == 1) CHECK(calls == 6);
  }
}
