// SPDX-License-Identifier: Apache-2.0
// TCP as ranks use it: addresses, listening, connecting within a time, and frames of a kind and some bytes.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>

namespace hull::tcp {

using steady = std::chrono::steady_clock;

/// A moment `seconds` from now.
[[nodiscard]] inline steady::time_point in_seconds(double seconds) {
  return steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(seconds));
}

/// Owns a socket, which does not block.
class socket final {
 public:
  socket() = default;
  explicit socket(int number) : number_(number) {}
  socket(socket&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  socket& operator=(socket&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  socket(socket const&) = delete;
  socket& operator=(socket const&) = delete;
  ~socket() {
    if (number_ >= 0) close(number_);
  }
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] explicit operator bool() const { return number_ >= 0; }

  /// Waits until it can be read or written (POLLIN, POLLOUT); false if `end` comes first.
  [[nodiscard]] bool wait(short what, steady::time_point end) const {
    for (;;) {
      auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(end - steady::now()).count();
      pollfd one{number_, what, 0};
      int const found = poll(&one, 1, static_cast<int>(std::max<long long>(0, left)));
      if (found > 0) return true;
      if (left <= 0) return false;
    }
  }

  /// Sends everything; false if the other side is gone, or `stop()` says so while it takes nothing.
  template <class Stop>
  [[nodiscard]] bool send_all(void const* bytes, std::size_t count, Stop&& stop) const {
    auto const* at = static_cast<char const*>(bytes);
    while (count > 0) {
      ssize_t const sent = send(number_, at, count, MSG_NOSIGNAL);
      if (sent > 0) {
        at += sent;
        count -= static_cast<std::size_t>(sent);
      } else if (!blocked() || (!wait(POLLOUT, in_seconds(0.1)) && stop())) {
        return false;
      }
    }
    return true;
  }

  /// Receives exactly so much; false if the other side is gone, or `end` comes first.
  [[nodiscard]] bool receive_all(void* bytes, std::size_t count, steady::time_point end) const {
    auto* at = static_cast<char*>(bytes);
    while (count > 0) {
      long const got = receive_some(at, count);
      if (got < 0 || (got == 0 && !wait(POLLIN, end))) return false;
      at += got;
      count -= static_cast<std::size_t>(got);
    }
    return true;
  }

  /// Receives what is there: 0 if nothing is, -1 if the other side is gone.
  [[nodiscard]] long receive_some(void* bytes, std::size_t count) const {
    ssize_t const got = recv(number_, bytes, count, 0);
    if (got > 0) return got;
    return got < 0 && blocked() ? 0 : -1;
  }

 private:
  static bool blocked() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

  int number_ = -1;
};

/// Where a socket can connect to, or listen.
struct endpoint final {
  sockaddr_storage address{};
  socklen_t length = 0;

  void set_port(std::uint16_t port) {
    if (address.ss_family == AF_INET6) {
      reinterpret_cast<sockaddr_in6*>(&address)->sin6_port = htons(port);
    } else {
      reinterpret_cast<sockaddr_in*>(&address)->sin_port = htons(port);
    }
  }
  [[nodiscard]] bool loopback() const {
    if (address.ss_family == AF_INET6) {
      return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6 const*>(&address)->sin6_addr);
    }
    return ntohl(reinterpret_cast<sockaddr_in const*>(&address)->sin_addr.s_addr) >> 24 == 127;
  }
};

/// What a host's name stands for. Throws hull::error if the name is not known; one that cannot be asked for now is
/// asked for again until `end`.
[[nodiscard]] inline std::vector<endpoint> resolve(std::string const& host, steady::time_point end) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  int status = 0;
  while ((status = getaddrinfo(host.c_str(), nullptr, &hints, &found)) == EAI_AGAIN && steady::now() < end) {
    poll(nullptr, 0, 100);
  }
  if (status != 0) throw error("MASTER_ADDR: the host '" + host + "' is not known: " + gai_strerror(status));
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> const owned(found, &freeaddrinfo);
  std::vector<endpoint> all;
  for (addrinfo const* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family != AF_INET && one->ai_family != AF_INET6) continue;
    auto& to = all.emplace_back();
    std::memcpy(&to.address, one->ai_addr, one->ai_addrlen);
    to.length = one->ai_addrlen;
  }
  return all;
}

/// Small messages leave at once.
inline void hurry(socket const& s) {
  int const yes = 1;
  setsockopt(s.number(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

/// A connection, or none if there is nobody before `end`.
[[nodiscard]] inline socket connect_to(endpoint const& to, steady::time_point end) {
  socket s(::socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!s) return {};
  if (connect(s.number(), reinterpret_cast<sockaddr const*>(&to.address), to.length) != 0) {
    int failed = 0;
    socklen_t length = sizeof failed;
    if (errno != EINPROGRESS || !s.wait(POLLOUT, end)) return {};
    if (getsockopt(s.number(), SOL_SOCKET, SO_ERROR, &failed, &length) != 0 || failed != 0) return {};
  }
  hurry(s);
  return s;
}

/// A socket that listens at `at` (port 0: any free one), or none, and errno says why.
[[nodiscard]] inline socket listen_at(endpoint const& at) {
  socket s(::socket(at.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!s) return {};
  int const yes = 1;
  setsockopt(s.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(s.number(), reinterpret_cast<sockaddr const*>(&at.address), at.length) != 0) return {};
  if (listen(s.number(), 1024) != 0) return {};
  return s;
}

/// All addresses of this host, of one family: AF_INET or AF_INET6.
[[nodiscard]] inline endpoint anywhere(sa_family_t family) {
  endpoint all;  // zeros: any address
  all.address.ss_family = family;
  all.length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  return all;
}

/// The port that a socket listens at.
[[nodiscard]] inline std::uint16_t port_of(socket const& s) {
  endpoint own;
  own.length = sizeof own.address;
  getsockname(s.number(), reinterpret_cast<sockaddr*>(&own.address), &own.length);
  return ntohs(own.address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6 const*>(&own.address)->sin6_port
                                                 : reinterpret_cast<sockaddr_in const*>(&own.address)->sin_port);
}

enum class frame_kind : std::uint32_t { welcome = 1, beat, data, fail, lost, bye };

/// A frame's first bytes.
struct frame_head final {
  frame_kind kind = frame_kind::beat;
  std::uint32_t number = 0;  // of data: the channel; of `lost`: the fault
  std::uint64_t bytes = 0;   // that follow
};

/// For send_all: whether it has taken this long.
[[nodiscard]] inline auto after_seconds(double seconds) {
  return [end = in_seconds(seconds)] { return steady::now() >= end; };
}

/// False if the other side is gone, or `stop()` says so while it takes nothing.
template <class Stop>
bool send_frame(socket const& to, frame_kind kind, std::size_t number, void const* bytes, std::size_t count,
                Stop&& stop) {
  frame_head const head{kind, static_cast<std::uint32_t>(number), count};
  return to.send_all(&head, sizeof head, stop) && to.send_all(bytes, count, stop);
}
inline bool send_text(socket const& to, frame_kind kind, std::size_t number, std::string const& text) {
  return send_frame(to, kind, number, text.data(), text.size(), after_seconds(1));
}

}  // namespace hull::tcp
