// SPDX-License-Identifier: Apache-2.0
// A search seen from a terminal: one line that says how far it is, and Ctrl-C, which ends it with what is known.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdio>
#include <unistd.h>

#include <hull/search/verdict.hpp>

namespace hull::cli {

/// A flag that the first Ctrl-C sets; the second one ends the program as usual.
inline std::atomic<bool> const& catch_interrupt() {
  static std::atomic<bool> interrupted = false;
  static_assert(std::atomic<bool>::is_always_lock_free);  // else the handler must not touch it
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  return interrupted;
}

class progress_line final {
 public:
  progress_line() = default;
  progress_line(progress_line const&) = delete;
  progress_line& operator=(progress_line const&) = delete;
  ~progress_line() { clear(); }  // a message that follows has a line of its own

  /// Only people want to see it.
  [[nodiscard]] static bool wanted() { return isatty(STDERR_FILENO) != 0; }

  void show(search_progress const& now) {
    double const rate = now.seconds > 0 ? static_cast<double>(now.domains) / now.seconds : 0;
    std::fprintf(stderr, "\r%.0f s: %zu domains, %.0f a second, %zu open, margin %.4g, %.0f MB \033[K", now.seconds,
                 now.domains, rate, now.open, now.margin, static_cast<double>(now.bytes) / 1e6);
    std::fflush(stderr);
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

 private:
  bool shown_ = false;
};

}  // namespace hull::cli
