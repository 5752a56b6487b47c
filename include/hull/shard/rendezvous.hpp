// SPDX-License-Identifier: Apache-2.0
// Ranks that any launcher started, found over TCP or a file in a shared folder. What they need to start NCCL, and a
// communicator in its own right: all messages go by rank 0, which is enough for what is small.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/shard/communicator.hpp>
#include <hull/shard/launch.hpp>
#include <hull/shard/lost_rank.hpp>
#include <hull/shard/rank_on_host.hpp>
#include <hull/shard/tcp/control_channel.hpp>
#include <hull/shard/tcp/meeting.hpp>

namespace hull {

class Rendezvous final {
 public:
  /// Meets the others; all ranks do so together. `lost` is called when a rank is lost; if it is empty, or returns,
  /// collectives throw. Throws hull::error (fault::device) that names a rank that does not join, (fault::input) if
  /// ranks disagree about their numbers.
  explicit Rendezvous(launch const& place = read_launch(), lost_handler lost = {})
      : rank_(place.rank),
        size_(place.size),
        link_(std::make_shared<tcp::control_channel>(place.rank, tcp::meeting(place).meet(), std::move(lost))),
        background_(new Rendezvous(*this, 1)) {
    std::size_t const counted = rank_on_host(*this);
    local_rank_ = place.local_rank.value_or(counted);
  }
  Rendezvous(Rendezvous const&) = delete;
  Rendezvous& operator=(Rendezvous const&) = delete;
  ~Rendezvous() = default;

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  /// Among the ranks of this host: what the launcher says, else by host name.
  [[nodiscard]] std::size_t local_rank() const { return local_rank_; }

  /// Rank 0's bytes, on all ranks.
  [[nodiscard]] std::vector<std::byte> broadcast(std::vector<std::byte> bytes) {
    if (rank_ != 0) return link_->receive(channel_, 0);
    for (std::size_t r = 1; r < size_; ++r) link_->send(channel_, r, bytes.data(), bytes.size());
    return bytes;
  }

  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    if (rank_ == 0) {
      if (part != all) std::copy_n(part, bytes, all);
      for (std::size_t r = 1; r < size_; ++r) take(r, all + r * bytes, bytes);
      for (std::size_t r = 1; r < size_; ++r) link_->send(channel_, r, all, size_ * bytes);
    } else {
      link_->send(channel_, 0, part, bytes);
      take(0, all, size_ * bytes);
    }
  }

  void sum(float* values, std::size_t count) { add(values, count); }
  void sum(double* values, std::size_t count) { add(values, count); }

  [[nodiscard]] unsigned any(unsigned bits) { return gathered_bits(*this, bits); }

  void fail(std::string const& why) { link_->fail(why); }

  /// Waits until all ranks come here: for those that end with an exception on which all agree. Otherwise the destructor
  /// does it; there, an exception on its way counts as a failure of this rank alone.
  void leave() { link_->leave(); }

  [[nodiscard]] Rendezvous& background() { return background_ ? *background_ : *this; }

  /// Why ranks stopped; empty while all are well.
  [[nodiscard]] std::string lost() const { return link_->lost(); }

 private:
  /// The background of `first`.
  explicit Rendezvous(Rendezvous const& first, int channel)
      : rank_(first.rank_), size_(first.size_), channel_(static_cast<std::size_t>(channel)), link_(first.link_) {}

  void take(std::size_t from, std::byte* to, std::size_t bytes) {
    auto const message = link_->receive(channel_, from);
    if (message.size() != bytes) {
      throw error("rank " + std::to_string(from) + " is in another collective than rank " + std::to_string(rank_),
                  fault::device);
    }
    std::copy(message.begin(), message.end(), to);
  }

  /// Rank 0 adds, in the order of ranks.
  template <class T>
  void add(T* values, std::size_t count) {
    if (size_ == 1) return;
    auto* const own = reinterpret_cast<std::byte*>(values);
    if (rank_ != 0) {
      link_->send(channel_, 0, own, count * sizeof(T));
      take(0, own, count * sizeof(T));
      return;
    }
    std::vector<T> part(count);
    for (std::size_t i = 0; i < count; ++i) values[i] += T{0};  // as a sum that starts from zero
    for (std::size_t r = 1; r < size_; ++r) {
      take(r, reinterpret_cast<std::byte*>(part.data()), count * sizeof(T));
      for (std::size_t i = 0; i < count; ++i) values[i] += part[i];
    }
    for (std::size_t r = 1; r < size_; ++r) link_->send(channel_, r, own, count * sizeof(T));
  }

  std::size_t rank_, size_;
  std::size_t local_rank_ = 0;
  std::size_t channel_ = 0;
  std::shared_ptr<tcp::control_channel> link_;
  std::unique_ptr<Rendezvous> background_;
};

static_assert(Communicator<Rendezvous>);

}  // namespace hull
