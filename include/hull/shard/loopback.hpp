// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of one process: for tests, and to measure what each of P ranks would need.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/share.hpp>
#include <hull/shard/communicator.hpp>

namespace hull {

class Loopback final {
 public:
  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return shared_->size; }

  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    shared_->slot[rank_] = part;
    meet();
    for (std::size_t r = 0; r < size(); ++r) {
      auto const* const from = static_cast<std::byte const*>(shared_->slot[r]);
      if (from != all + r * bytes) std::copy_n(from, bytes, all + r * bytes);
    }
    meet();  // nobody changes its part before all have read it
  }

  void sum(float* values, std::size_t count) { add(values, count); }
  void sum(double* values, std::size_t count) { add(values, count); }

  [[nodiscard]] unsigned any(unsigned bits) {
    shared_->slot[rank_] = &bits;
    meet();
    unsigned all = 0;
    for (void const* one : shared_->slot) all |= *static_cast<unsigned const*>(one);
    meet();
    return all;
  }

  void fail(std::string const& why) {
    shared_->fail(rank_, why);
    if (background_ != nullptr) background_->fail(why);
  }

  [[nodiscard]] Loopback& background() { return background_ != nullptr ? *background_ : *this; }

  /// Calls body(ranks) in `size` threads and waits for all of them. If a rank throws, the others' collectives throw,
  /// too; the first exception is thrown again here.
  template <class Body>
  static void run(std::size_t size, Body&& body) {
    auto const front = std::make_shared<group>(size), back = std::make_shared<group>(size);
    std::vector<std::thread> threads;
    std::exception_ptr first;
    std::mutex first_lock;
    for (std::size_t r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        Loopback ranks(front, r), behind(back, r);
        ranks.background_ = &behind;
        try {
          body(ranks);
        } catch (std::exception const& e) {
          {
            std::scoped_lock const hold(first_lock);
            if (!first) first = std::current_exception();
          }
          ranks.fail(e.what());
        }
      });
    }
    for (auto& thread : threads) thread.join();
    if (first) std::rethrow_exception(first);
  }

 private:
  struct group final {
    explicit group(std::size_t ranks) : size(ranks), slot(ranks) {}

    void fail(std::size_t rank, std::string const& why) {
      std::scoped_lock const hold(lock);
      if (cause.empty()) cause = "rank " + std::to_string(rank) + " failed: " + why;
      turn.notify_all();
    }

    std::size_t const size;
    std::vector<void const*> slot;  // [rank] what each shows to the others between two meetings
    std::mutex lock;
    std::condition_variable turn;
    std::size_t waiting = 0, meetings = 0;
    std::string cause;  // why ranks stopped, once one has failed
  };

  Loopback(std::shared_ptr<group> shared, std::size_t rank) : shared_(std::move(shared)), rank_(rank) {}

  /// Waits until all ranks are here.
  void meet() {
    group& g = *shared_;
    std::unique_lock hold(g.lock);
    std::size_t const now = g.meetings;
    if (g.cause.empty() && ++g.waiting == g.size) {
      g.waiting = 0;
      ++g.meetings;
      g.turn.notify_all();
    } else {
      g.turn.wait(hold, [&] { return g.meetings != now || !g.cause.empty(); });
    }
    if (g.meetings == now) throw error(g.cause, fault::device);
  }

  /// Each rank adds up its part of the values, in the order of ranks; then all collect the parts.
  template <class T>
  void add(T* values, std::size_t count) {
    shared_->slot[rank_] = values;
    meet();
    row_range const mine = share_of(count, rank_, size());
    std::vector<T> sums(mine.size());
    for (std::size_t i = mine.first; i < mine.last; ++i) {
      T sum = 0;
      for (void const* one : shared_->slot) sum += static_cast<T const*>(one)[i];
      sums[i - mine.first] = sum;
    }
    meet();
    shared_->slot[rank_] = sums.data();
    meet();
    for (std::size_t r = 0; r < size(); ++r) {
      row_range const part = share_of(count, r, size());
      std::copy_n(static_cast<T const*>(shared_->slot[r]), part.size(), values + part.first);
    }
    meet();
  }

  std::shared_ptr<group> shared_;
  std::size_t rank_;
  Loopback* background_ = nullptr;
};

static_assert(Communicator<Loopback>);

}  // namespace hull
