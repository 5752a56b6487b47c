// SPDX-License-Identifier: Apache-2.0
// The connections of all ranks to rank 0, and the thread that watches them: it beats for the others to hear, sorts what
// arrives by channel, and tells every rank when one is lost. Rank 0 hears of it first and passes it on.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <poll.h>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/shard/lost_rank.hpp>
#include <hull/shard/tcp/socket.hpp>

namespace hull::tcp {

class control_channel final {
 public:
  static constexpr std::size_t channels = 2;
  using bytes = std::vector<std::byte>;

  /// `sockets`: what a meeting returned on rank `self`. `lost` may be empty: then only receive() tells.
  control_channel(std::size_t self, std::vector<socket> sockets, lost_handler lost)
      : self_(self), handler_(std::move(lost)), started_with_(std::uncaught_exceptions()) {
    for (auto& one : sockets) peers_.push_back(std::make_unique<peer>(std::move(one)));
    if (peers_.size() > 1) watch_ = std::thread([this] { watch(); });
  }
  control_channel(control_channel const&) = delete;
  control_channel& operator=(control_channel const&) = delete;

  /// Leaves together with the others; if an exception ends this rank, they are told.
  ~control_channel() {
    if (!watch_.joinable()) return;
    if (std::uncaught_exceptions() > started_with_ && !gone_) fail("an exception has ended it");
    leave();
    stop_ = true;
    watch_.join();
  }

  /// Waits until all ranks come here, unless one has failed or is lost. From here on nobody is watched.
  void leave() {
    if (watch_.joinable() && !failed_ && !gone_) leave_together();
    gone_ = true;
  }

  /// On rank 0 to any other, on all others to rank 0. Throws hull::error (fault::device) that names the rank if one is
  /// lost.
  void send(std::size_t channel, std::size_t to, void const* data, std::size_t count) {
    peer& p = *peers_[to];
    std::scoped_lock const hold(p.writing);
    auto const hopeless = [this] { return !lost().empty(); };
    if (!send_frame(p.to, frame_kind::data, channel, data, count, hopeless)) throw_lost(to);
  }

  /// The next message of a rank on this channel. Throws hull::error (fault::device) that names the rank if one is lost.
  [[nodiscard]] bytes receive(std::size_t channel, std::size_t from) {
    peer& p = *peers_[from];
    std::unique_lock hold(lock_);
    changed_.wait(hold, [&] { return !p.inbox[channel].empty() || !lost_.empty() || p.left; });
    if (p.inbox[channel].empty()) {
      throw error(lost_.empty() ? "rank " + std::to_string(from) + " has left the others" : lost_, fault::device);
    }
    bytes message = std::move(p.inbox[channel].front());
    p.inbox[channel].pop_front();
    return message;
  }

  /// Tells all ranks why this one cannot go on, and waits a moment for them to hear it.
  void fail(std::string const& why) {
    if (!watch_.joinable() || told_ || failed_.exchange(true)) return;
    std::string const text = why.substr(0, longest_reason);
    for_others([&](std::size_t r) {
      std::scoped_lock const hold(peers_[r]->writing);
      if (self_ == 0) {
        send_text(peers_[r]->to, frame_kind::lost, 0, failure(0, text));
      } else {
        send_text(peers_[r]->to, frame_kind::fail, 0, text);
      }
    });
    std::unique_lock hold(lock_);  // a launcher that sees this process end would end the others before they speak
    changed_.wait_for(hold, std::chrono::milliseconds(500), [&] {
      bool all = true;
      for_others([&](std::size_t r) { all = all && peers_[r]->closed; });
      return all;
    });
    if (lost_.empty()) lost_ = failure(self_, text);  // another thread of this rank may wait for the others
    changed_.notify_all();
  }

  /// Why ranks stopped; empty while all are well.
  [[nodiscard]] std::string lost() const {
    std::scoped_lock const hold(lock_);
    return lost_;
  }

 private:
  static constexpr std::size_t longest_reason = 1000;
  static constexpr int glance = 50;  // milliseconds between two looks of the watch thread, if nothing arrives
  static constexpr auto beat = std::chrono::milliseconds(500);

  struct peer final {
    explicit peer(socket s) : to(std::move(s)) {}

    socket to;
    std::mutex writing;
    std::array<std::deque<bytes>, channels> inbox;
    bool left = false, closed = false;

    // of the watch thread alone
    steady::time_point heard = steady::now();
    frame_head head;
    std::size_t got = 0;  // bytes of the head, then of the body
    bool in_body = false;
    bytes body;
  };

  /// Those that this rank is connected to.
  template <class F>
  void for_others(F&& f) const {
    for (std::size_t r = 0; r < peers_.size(); ++r) {
      if (peers_[r]->to) f(r);
    }
  }

  static std::string failure(std::size_t rank, std::string const& why) {
    return "rank " + std::to_string(rank) + " failed: " + why;
  }

  /// After a message could not be sent: what the watch thread finds out.
  [[noreturn]] void throw_lost(std::size_t to) {
    std::unique_lock hold(lock_);
    changed_.wait_for(hold, std::chrono::seconds(1), [&] { return !lost_.empty(); });
    throw error(lost_.empty() ? "rank " + std::to_string(to) + " is gone: its connection has closed" : lost_,
                fault::device);
  }

  void say(std::size_t to, frame_kind kind, std::string const& text = {}) {
    std::scoped_lock const hold(peers_[to]->writing);
    send_text(peers_[to]->to, kind, 0, text);
  }

  void leave_together() {
    auto const all_left = [&] {
      bool all = true;
      for_others([&](std::size_t r) { all = all && peers_[r]->left; });
      return all || !lost_.empty();
    };
    if (self_ != 0) say(0, frame_kind::bye);
    {
      std::unique_lock hold(lock_);
      changed_.wait(hold, all_left);
    }
    if (self_ == 0) for_others([&](std::size_t r) { say(r, frame_kind::bye); });
  }

  void watch() {
    auto last = steady::now() - beat;
    while (!stop_) {
      std::vector<pollfd> watched;
      for_others([&](std::size_t r) {
        if (!peers_[r]->closed) watched.push_back({peers_[r]->to.number(), POLLIN, 0});
      });
      poll(watched.data(), watched.size(), glance);
      for_others([&](std::size_t r) { listen(r); });
      if (steady::now() - last < beat) continue;
      last = steady::now();
      for_others([&](std::size_t r) {
        peer& p = *peers_[r];
        std::unique_lock const hold(p.writing, std::try_to_lock);  // what is being sent is as good as a beat
        if (hold && !p.closed) send_text(p.to, frame_kind::beat, 0, {});
        double const silent = std::chrono::duration<double>(steady::now() - p.heard).count();
        if (!p.left && silent > patience()) {
          tell_lost(r, "rank " + std::to_string(r) + " has been silent for " + told_patience());
        }
      });
    }
  }

  /// Takes what a rank has sent.
  void listen(std::size_t r) {
    peer& p = *peers_[r];
    while (!p.closed) {
      char* const head = reinterpret_cast<char*>(&p.head);
      char* const to = p.in_body ? reinterpret_cast<char*>(p.body.data()) : head;
      std::size_t const all = p.in_body ? p.body.size() : sizeof p.head;
      long const got = all == p.got ? 0 : p.to.receive_some(to + p.got, all - p.got);
      if (got < 0) {
        bool left = false;
        {
          std::scoped_lock const hold(lock_);
          p.closed = true;
          left = p.left;
        }
        changed_.notify_all();
        if (!left) tell_lost(r, "rank " + std::to_string(r) + " is gone: its connection has closed");
        return;
      }
      if (got > 0) p.heard = steady::now();
      p.got += static_cast<std::size_t>(got);
      if (p.got < all) {
        if (got == 0) return;
        continue;
      }
      p.got = 0;
      p.in_body = !p.in_body;
      if (p.in_body) {
        p.body.resize(p.head.bytes);
      } else {
        take(r, p.head, std::move(p.body));
        p.body = {};
      }
    }
  }

  void take(std::size_t r, frame_head const& head, bytes body) {
    std::string const text(reinterpret_cast<char const*>(body.data()), head.kind == frame_kind::data ? 0 : body.size());
    if (head.kind == frame_kind::fail) return tell_lost(r, failure(r, text));
    if (head.kind == frame_kind::lost) return tell_lost(r, text);
    std::scoped_lock const hold(lock_);
    if (head.kind == frame_kind::bye) peers_[r]->left = true;
    if (head.kind == frame_kind::data && head.number < channels)
      peers_[r]->inbox[head.number].push_back(std::move(body));
    changed_.notify_all();
  }

  /// The first loss counts: what follows are its consequences.
  void tell_lost(std::size_t who, std::string const& why) {
    if (failed_ || told_.exchange(true)) return;
    if (self_ == 0) {
      for_others([&](std::size_t r) {
        if (r != who) say(r, frame_kind::lost, why);
      });
    }
    if (handler_) handler_(why);  // before collectives throw: one that ends the process is the only one to speak
    {
      std::scoped_lock const hold(lock_);
      lost_ = why;
    }
    changed_.notify_all();
  }

  std::size_t self_;
  lost_handler handler_;
  int started_with_;                          // exceptions under way
  std::vector<std::unique_ptr<peer>> peers_;  // [rank]; on all ranks but the first, only the first has a connection
  mutable std::mutex lock_;
  std::condition_variable changed_;
  std::string lost_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> failed_ = false;  // this rank
  std::atomic<bool> told_ = false;    // that another is lost
  bool gone_ = false;                 // together with the others
  std::thread watch_;
};

}  // namespace hull::tcp
