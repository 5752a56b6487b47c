// SPDX-License-Identifier: Apache-2.0
// Seconds of a scope.
#pragma once

#include <chrono>

namespace hull::detail {

/// Adds the seconds of a scope to a counter.
class stopwatch final {
 public:
  explicit stopwatch(double& seconds) : seconds_(&seconds) {}
  stopwatch(stopwatch const&) = delete;
  stopwatch& operator=(stopwatch const&) = delete;
  ~stopwatch() { *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  double* seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace hull::detail
