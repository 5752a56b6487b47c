// SPDX-License-Identifier: Apache-2.0
// Collects blocks whose parts lie on all ranks, one block ahead of use, on a thread of its own.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>

#include <hull/shard/communicator.hpp>

namespace hull {

/// What collecting blocks has cost one rank.
struct gather_cost final {
  std::size_t blocks = 0;
  std::size_t bytes = 0;     // received from other ranks
  double communicating = 0;  // seconds in collectives, on either thread
  double waiting = 0;        // seconds for which computing stood still
};

/// Two buffers: one block is used while the next one arrives. All ranks must ask for the same blocks in the same order.
/// Not for use from several threads.
template <Communicator C>
class block_gatherer final {
 public:
  /// `buffers`: two of `floats` each, at least ranks times the largest part. `overlap` false: no thread, the caller
  /// waits.
  block_gatherer(C& ranks, float* buffers, std::size_t floats, bool overlap)
      : ranks_(&ranks.background()), buffer_{buffers, buffers + floats}, overlap_(overlap && ranks.size() > 1) {
    if (overlap_) worker_ = std::thread([this] { work(); });
  }
  block_gatherer(block_gatherer const&) = delete;
  block_gatherer& operator=(block_gatherer const&) = delete;
  ~block_gatherer() {
    if (!worker_.joinable()) return;
    {
      std::unique_lock hold(lock_);
      changed_.wait(hold, [&] { return !busy_; });  // the others are in the same collective
      stop_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  static constexpr std::size_t none = ~std::size_t{0};

  /// Block number `now`, of which this rank has part(now) [floats(now)]; begins to collect block `next` (or none).
  /// The result stays until the next call.
  template <class Part, class Floats>
  [[nodiscard]] float const* take(std::size_t now, std::size_t next, Part&& part, Floats&& floats) {
    auto const start = clock::now();
    if (coming_ != now) {
      finish();
      begin(now, part(now), floats(now));
    }
    finish();
    cost_.waiting += seconds(start);
    float const* const block = buffer_[side_];
    if (next != none) begin(next, part(next), floats(next));
    return block;
  }

  [[nodiscard]] gather_cost const& cost() const { return cost_; }

 private:
  using clock = std::chrono::steady_clock;
  static double seconds(clock::time_point start) { return std::chrono::duration<double>(clock::now() - start).count(); }

  void begin(std::size_t block, float const* part, std::size_t floats) {
    side_ = 1 - side_;
    coming_ = block;
    part_ = part;
    floats_ = floats;
    {
      std::scoped_lock const hold(lock_);
      busy_ = true;
    }
    if (overlap_) changed_.notify_all();
  }

  /// Waits for the block that was begun, if any.
  void finish() {
    if (coming_ == none) return;
    if (overlap_) {
      std::unique_lock hold(lock_);
      changed_.wait(hold, [&] { return !busy_; });
    } else if (busy_) {
      collect();
      busy_ = false;
    }
    if (failed_) std::rethrow_exception(failed_);
  }

  void collect() {
    auto const start = clock::now();
    ranks_->all_gather(reinterpret_cast<std::byte const*>(part_), reinterpret_cast<std::byte*>(buffer_[side_]),
                       floats_ * sizeof(float));
    ++cost_.blocks;
    cost_.bytes += (ranks_->size() - 1) * floats_ * sizeof(float);
    cost_.communicating += seconds(start);
  }

  void work() {
    std::unique_lock hold(lock_);
    for (;;) {
      changed_.wait(hold, [&] { return busy_ || stop_; });
      if (stop_) return;
      hold.unlock();
      try {
        collect();
      } catch (...) {
        failed_ = std::current_exception();
      }
      hold.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  C* ranks_;
  std::array<float*, 2> buffer_;
  bool overlap_;
  std::size_t side_ = 0;
  std::size_t coming_ = none;  // the block that is in buffer_[side_], or on its way there
  float const* part_ = nullptr;
  std::size_t floats_ = 0;
  gather_cost cost_;

  std::mutex lock_;
  std::condition_variable changed_;
  bool busy_ = false, stop_ = false;
  std::exception_ptr failed_;
  std::thread worker_;
};

}  // namespace hull
