// SPDX-License-Identifier: Apache-2.0
// A point in time after which work stops.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <utility>

namespace hull {

/// Thrown inside a propagation when its deadline has passed; the search turns it into the verdict `timeout`.
class deadline_passed final : public std::exception {
 public:
  [[nodiscard]] char const* what() const noexcept override { return "hull: deadline passed"; }
};

class deadline final {
 public:
  using clock = std::chrono::steady_clock;

  deadline() = default;  // never
  explicit deadline(double seconds_from_now)
      : end_(clock::now() + std::chrono::duration_cast<clock::duration>(
                                std::chrono::duration<double>(std::min(seconds_from_now, longest)))),
        set_(true) {}

  /// The deadline has passed, too, once `*flag` is true (null: never). A handler of signals may set it.
  void watch(std::atomic<bool> const* flag) { flag_ = flag; }

  /// Where several ranks run the same steps: asks all of them, so that they stop together. `any` returns whether one of
  /// them says yes; every rank must then ask passed() or check() equally often.
  void agree(std::function<bool(bool)> any) { any_ = std::move(any); }

  /// One that comes after this share of the time that is left, from 0 to 1.
  [[nodiscard]] deadline after(double share) const {
    deadline sooner = *this;
    auto const now = clock::now();
    if (set_ && end_ > now) {
      sooner.end_ =
          now + std::chrono::duration_cast<clock::duration>(share * std::chrono::duration<double>(end_ - now));
    }
    return sooner;
  }

  [[nodiscard]] bool passed() const { return any_ ? any_(passed_here()) : passed_here(); }

  /// Without asking others.
  [[nodiscard]] bool passed_here() const {
    return (flag_ != nullptr && flag_->load(std::memory_order_relaxed)) || (set_ && clock::now() >= end_);
  }

  void check() const {
    if (passed()) throw deadline_passed();
  }

 private:
  static constexpr double longest = 1e9;  // seconds; far more would overflow the clock

  std::function<bool(bool)> any_;
  std::atomic<bool> const* flag_ = nullptr;
  clock::time_point end_{};
  bool set_ = false;
};

}  // namespace hull
