// SPDX-License-Identifier: Apache-2.0
// How ranks find each other: rank 0 listens, the others connect and say who they are.
//
// Ports are open to everybody, so both sides greet: whoever does not know the job's name is ignored, and rank 0 may
// listen at the next port if the first one is taken.
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <ifaddrs.h>
#include <net/if.h>
#include <random>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/shard/launch.hpp>
#include <hull/shard/lost_rank.hpp>
#include <hull/shard/tcp/socket.hpp>

namespace hull::tcp {

class meeting final {
 public:
  explicit meeting(launch const& place) : place_(&place), end_(in_seconds(patience())), job_(hash(place.job)) {}

  /// Connections to all ranks, by rank; on all ranks but the first, only the one to rank 0. Throws hull::error on every
  /// rank that has come: (fault::device) if one has not joined within HULL_PATIENCE seconds or there is no port,
  /// (fault::input) if two have the same number or another idea of how many there are, or rank 0's host is not known.
  [[nodiscard]] std::vector<socket> meet() {
    std::vector<socket> all(place_->size);
    if (place_->size == 1) return all;
    if (place_->rank != 0) {
      all[0] = join();
      wait_for_welcome(all[0]);
      return all;
    }
    open();
    collect(all);
    if (!place_->file.empty()) std::remove(place_->file.c_str());
    for (std::size_t r = 1; r < all.size(); ++r) send_text(all[r], frame_kind::welcome, 0, {});
    return all;
  }

 private:
  using magic = std::array<char, 8>;
  static constexpr magic from_joiner{'h', 'u', 'l', 'l', '-', 'j', '1', '\n'};
  static constexpr magic from_first{'h', 'u', 'l', 'l', '-', 'f', '1', '\n'};

  struct greeting final {
    magic says{};
    std::uint64_t job = 0;
    std::uint32_t rank = 0, size = 0;

    [[nodiscard]] friend bool operator==(greeting const&, greeting const&) = default;
  };

  /// Somebody who has connected and not said everything yet.
  struct guest final {
    socket to;
    greeting said;
    std::size_t got = 0;
    steady::time_point end = in_seconds(2);
  };

  /// FNV-1a: the same on all hosts.
  static std::uint64_t hash(std::string const& text) {
    std::uint64_t h = 14695981039346656037U;
    for (char const c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211U;
    return h;
  }

  /// Where rank 0 may be listening now.
  std::vector<endpoint> places() {
    std::vector<endpoint> all;
    auto const add = [&](std::string const& host, unsigned port) {
      for (endpoint one : resolve(host, end_)) {
        one.set_port(static_cast<std::uint16_t>(port));
        all.push_back(one);
      }
    };
    if (place_->file.empty()) {
      if (fixed_.empty()) {
        for (unsigned i = 0; i < launch::ports; ++i) add(place_->address, place_->port + i);
        fixed_ = all;
      }
      return fixed_;
    }
    std::ifstream file(place_->file);
    std::string first, host;
    unsigned port = 0;
    if (!(file >> first >> job_) || first != "hull-rendezvous") return all;
    while (file >> host >> port) add(host, port);
    return all;
  }

  /// A connection to rank 0 of this job, if it is there.
  [[nodiscard]] socket greet(endpoint const& at) const {
    socket to = connect_to(at, std::min(end_, in_seconds(0.5)));
    if (!to) return {};
    greeting const self{from_joiner, job_, static_cast<std::uint32_t>(place_->rank),
                        static_cast<std::uint32_t>(place_->size)};
    greeting answer;
    if (!to.send_all(&self, sizeof self, after_seconds(1))) return {};
    if (!to.receive_all(&answer, sizeof answer, in_seconds(1))) return {};
    return answer.says == from_first && answer.job == job_ ? std::move(to) : socket();
  }

  [[nodiscard]] socket join() {
    do {
      for (endpoint const& at : places()) {
        if (socket to = greet(at)) return to;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    } while (steady::now() < end_);
    std::string const where =
        place_->file.empty() ? place_->address + ", port " + std::to_string(place_->port) : place_->file;
    throw error("rank 0 has not joined for " + told_patience() + " (" + where + ")", fault::device);
  }

  /// Rank 0 says whether all have come.
  static void wait_for_welcome(socket const& first) {
    auto const end = in_seconds(patience() + 2);
    frame_head head;
    std::string why;
    bool heard = first.receive_all(&head, sizeof head, end);
    if (heard && head.kind == frame_kind::welcome) return;
    if (heard && head.bytes < 4096) {
      why.resize(head.bytes);
      heard = first.receive_all(why.data(), why.size(), end);
    }
    if (heard) throw error(why, static_cast<fault>(head.number));
    if (steady::now() < end) throw error("rank 0 is gone: its connection has closed", fault::device);
    throw error("rank 0 has been silent for " + told_patience(), fault::device);
  }

  // Rank 0.

  void open() {
    if (!place_->file.empty()) {
      for (endpoint const& earlier : places()) refuse_second_first(earlier);
      job_ = hash(std::to_string(std::random_device{}()) + " " + std::to_string(std::random_device{}()));
      listener_ = listen_at(anywhere(AF_INET));
      if (!listener_) throw error(std::string("rank 0 cannot listen: ") + std::strerror(errno), fault::device);
      publish();
      return;
    }
    endpoint at = resolve(place_->address, end_).at(0);
    if (!at.loopback()) at = anywhere(at.address.ss_family);
    for (unsigned i = 0; i < launch::ports; ++i) {
      at.set_port(static_cast<std::uint16_t>(place_->port + i));
      listener_ = listen_at(at);
      if (listener_ || errno != EADDRINUSE) break;
      look_at_port(place_->port + i);
      errno = EADDRINUSE;
    }
    if (listener_) return;
    throw error("rank 0 cannot listen at ports " + std::to_string(place_->port) + " to " +
                    std::to_string(place_->port + launch::ports - 1) + ": " + std::strerror(errno),
                fault::device);
  }

  /// Whoever has taken this port may be another rank 0 of this job.
  void look_at_port(unsigned port) const {
    for (endpoint one : resolve(place_->address, end_)) {
      one.set_port(static_cast<std::uint16_t>(port));
      refuse_second_first(one);
    }
  }
  void refuse_second_first(endpoint const& at) const {
    if (socket const other = greet(at)) wait_for_welcome(other);
  }

  /// Writes the addresses of this host to the file, all at once.
  void publish() const {
    std::string const draft = place_->file + "." + std::to_string(getpid());
    {
      std::ofstream file(draft);
      file << "hull-rendezvous " << job_ << '\n';
      ifaddrs* all = nullptr;
      static_cast<void>(getifaddrs(&all));
      for (bool const loopback : {false, true}) {
        for (ifaddrs const* one = all; one != nullptr; one = one->ifa_next) {
          bool const fits = one->ifa_addr != nullptr && one->ifa_addr->sa_family == AF_INET;
          if (!fits || ((one->ifa_flags & IFF_LOOPBACK) != 0) != loopback) continue;
          std::array<char, NI_MAXHOST> host{};
          getnameinfo(one->ifa_addr, sizeof(sockaddr_in), host.data(), host.size(), nullptr, 0, NI_NUMERICHOST);
          file << host.data() << ' ' << port_of(listener_) << '\n';
        }
      }
      if (all != nullptr) freeifaddrs(all);
      file.flush();
      if (!file) throw error("HULL_RENDEZVOUS: " + place_->file + ": cannot write this file");
    }
    if (std::rename(draft.c_str(), place_->file.c_str()) != 0) {
      std::remove(draft.c_str());
      throw error("HULL_RENDEZVOUS: " + place_->file + ": " + std::strerror(errno));
    }
  }

  /// Waits for all others.
  void collect(std::vector<socket>& all) {
    std::vector<guest> guests;
    for (;;) {
      std::string missing;
      for (std::size_t r = 1; r < all.size(); ++r) {
        char byte = 0;
        if (all[r] && all[r].receive_some(&byte, 1) < 0) all[r] = socket();  // it has given up, or tries again
        if (!all[r]) missing.append(" ").append(std::to_string(r));
      }
      if (missing.empty()) return;
      if (steady::now() >= end_) {
        refuse(all, {}, error("rank" + missing + " has not joined for " + told_patience(), fault::device));
      }
      std::vector<pollfd> watched{{listener_.number(), POLLIN, 0}};
      for (guest const& g : guests) watched.push_back({g.to.number(), POLLIN, 0});
      poll(watched.data(), watched.size(), 20);
      while (socket one{accept4(listener_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)}) {
        hurry(one);
        guests.push_back({std::move(one), {}});
      }
      std::erase_if(guests, [&](guest& g) { return listen_to(g, all); });
    }
  }

  /// Whether nothing more is expected of this guest.
  bool listen_to(guest& g, std::vector<socket>& all) {
    long const got = g.to.receive_some(reinterpret_cast<char*>(&g.said) + g.got, sizeof g.said - g.got);
    if (got < 0 || steady::now() > g.end) return true;
    g.got += static_cast<std::size_t>(got);
    if (g.got < sizeof g.said) return false;
    greeting const said = g.said;
    if (said.says != from_joiner || said.job != job_) return true;
    greeting const answer{from_first, job_, 0, static_cast<std::uint32_t>(place_->size)};
    if (!g.to.send_all(&answer, sizeof answer, after_seconds(1))) return true;
    std::string const number = std::to_string(said.rank);
    if (said.size != place_->size) {
      refuse(all, std::move(g.to),
             error("rank " + number + " was started as one of " + std::to_string(said.size) +
                   " ranks, rank 0 as one of " + std::to_string(place_->size)));
    }
    if (said.rank >= place_->size) return true;  // nobody of ours
    if (said.rank == 0 || all[said.rank]) refuse(all, std::move(g.to), error("two ranks have the number " + number));
    all[said.rank] = std::move(g.to);
    return true;
  }

  /// Tells all that have come, and the one who came wrongly.
  [[noreturn]] void refuse(std::vector<socket> const& all, socket last, error const& why) const {
    if (!place_->file.empty()) std::remove(place_->file.c_str());
    auto const tell = [&](socket const& to) {
      if (to) send_text(to, frame_kind::lost, static_cast<std::size_t>(why.kind()), why.what());
    };
    for (socket const& to : all) tell(to);
    tell(last);
    throw why;
  }

  launch const* place_;
  steady::time_point end_;
  std::uint64_t job_;
  std::vector<endpoint> fixed_;  // where rank 0 is, unless a file says it
  socket listener_;
};

}  // namespace hull::tcp
