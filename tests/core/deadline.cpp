// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <doctest/doctest.h>
#include <thread>

#include <hull/core/deadline.hpp>

using hull::deadline;

TEST_CASE("a deadline passes, or never") {
  CHECK_FALSE(deadline().passed());
  CHECK_FALSE(deadline(1e300).passed());
  CHECK(deadline(0).passed());
  CHECK_THROWS_AS(deadline(0).check(), hull::deadline_passed);
  deadline soon(0.02);
  CHECK_FALSE(soon.passed());
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(soon.passed());
}

TEST_CASE("a share of the time that is left") {
  deadline const whole(1000);
  deadline const part = whole.after(1e-5);  // 10 ms
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(part.passed());
  CHECK_FALSE(whole.passed());
  CHECK_FALSE(whole.after(0.5).passed());
  CHECK(whole.after(0).passed());
  CHECK(deadline(0).after(1).passed());
  CHECK_FALSE(deadline().after(0.1).passed());  // of no end
}

TEST_CASE("it keeps its flag, and asks other ranks") {
  std::atomic<bool> stop = false;
  int asked = 0;
  deadline whole(1000);
  whole.watch(&stop);
  whole.agree([&](bool mine) {
    ++asked;
    return mine;
  });
  deadline const part = whole.after(0.5);
  CHECK_FALSE(part.passed());
  CHECK(asked == 1);
  stop = true;
  CHECK(part.passed());
  CHECK(part.passed_here());
  CHECK(asked == 2);
}
