// SPDX-License-Identifier: Apache-2.0
// A communicator that notes what its collectives cost.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include <hull/shard/communicator.hpp>

namespace hull {

/// What one rank has spent in collectives.
struct communication_cost final {
  std::size_t calls = 0;
  std::size_t bytes = 0;  // received from other ranks
  double seconds = 0;     // waiting for other ranks included
};

template <Communicator C>
class Metered final {
 public:
  /// Borrows `ranks` and its background.
  explicit Metered(C& ranks) : ranks_(&ranks) {
    if (&ranks.background() != &ranks) behind_ = std::unique_ptr<Metered>(new Metered(ranks.background(), 0));
  }

  [[nodiscard]] std::size_t rank() const { return ranks_->rank(); }
  [[nodiscard]] std::size_t size() const { return ranks_->size(); }
  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    count((size() - 1) * bytes, [&] { ranks_->all_gather(part, all, bytes); });
  }
  void sum(float* values, std::size_t number) {
    count(two_ways(number * sizeof(float)), [&] { ranks_->sum(values, number); });
  }
  void sum(double* values, std::size_t number) {
    count(two_ways(number * sizeof(double)), [&] { ranks_->sum(values, number); });
  }
  [[nodiscard]] unsigned any(unsigned bits) {
    unsigned all = 0;
    count((size() - 1) * sizeof bits, [&] { all = ranks_->any(bits); });
    return all;
  }
  void fail(std::string const& why) { ranks_->fail(why); }
  [[nodiscard]] Metered& background() { return behind_ ? *behind_ : *this; }

  /// Of the collectives on the thread that computes, and of those in the background.
  [[nodiscard]] communication_cost const& cost() const { return cost_; }
  [[nodiscard]] communication_cost background_cost() const { return behind_ ? behind_->cost_ : communication_cost{}; }

 private:
  Metered(C& ranks, int /*no background*/) : ranks_(&ranks) {}

  /// A reduce-scatter and an all-gather.
  [[nodiscard]] std::size_t two_ways(std::size_t bytes) const { return 2 * (size() - 1) * bytes / size(); }

  template <class Work>
  void count(std::size_t bytes, Work&& work) {
    auto const start = std::chrono::steady_clock::now();
    work();
    cost_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    cost_.bytes += bytes;
    ++cost_.calls;
  }

  C* ranks_;
  communication_cost cost_;
  std::unique_ptr<Metered> behind_;
};

static_assert(Communicator<Metered<Solo>>);

}  // namespace hull
