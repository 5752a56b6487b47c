// SPDX-License-Identifier: Apache-2.0
// Keeps the time limit where a step does not look at the clock: a large file, a pipe without a writer, one long step of
// a device.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace hull::cli {

class watchdog final {
 public:
  /// Unless settle() or the destructor comes first, calls `report` after `seconds`, from a thread of its own, and ends
  /// the program with the status that it returns.
  watchdog(double seconds, std::function<int()> report)
      : thread_([this, seconds, report = std::move(report)] { wait(seconds, report); }) {}
  watchdog(watchdog const&) = delete;
  watchdog& operator=(watchdog const&) = delete;
  ~watchdog() {
    settle();
    thread_.join();
  }

  /// From here on the caller reports. Does not return if the watchdog already does.
  void settle() {
    std::scoped_lock const lock(mutex_);
    settled_ = true;
    changed_.notify_one();
  }

 private:
  void wait(double seconds, std::function<int()> const& report) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return settled_; })) return;
    std::_Exit(report());  // holds the lock to the end
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool settled_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace hull::cli
