// SPDX-License-Identifier: Apache-2.0
// What ranks that are processes do about one that is lost: how long they wait for it, and how they end.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include <hull/core/error.hpp>

namespace hull {

/// Called when a rank is lost, from a thread of the communicator's own.
using lost_handler = std::function<void(std::string const& why)>;

/// Seconds for a rank that is silent, or does not join: $HULL_PATIENCE, by default 8.
[[nodiscard]] inline double patience() {
  char const* const value = std::getenv("HULL_PATIENCE");
  double const seconds = value == nullptr ? 0 : std::strtod(value, nullptr);
  return seconds > 0 ? seconds : 8;
}

[[nodiscard]] inline std::string told_patience() { return std::to_string(static_cast<long>(patience())) + " seconds"; }

/// One line to stderr, and exit status 3 at once.
[[noreturn]] inline void say_and_exit(std::string const& why) {
  std::fprintf(stderr, "hull: %s\n", why.c_str());
  std::fflush(nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // launchers end all ranks after the first one that ends
  std::_Exit(static_cast<int>(fault::device));
}

}  // namespace hull
