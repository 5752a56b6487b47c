// SPDX-License-Identifier: Apache-2.0
// Ranks that find each other over TCP and over a file: collectives, and each way in which it can go wrong.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <hull/shard/any_communicator.hpp>
#include <hull/shard/rendezvous.hpp>

using namespace hull;

namespace {

namespace fs = std::filesystem;

/// HULL_PATIENCE in its scope.
class patient_for final {
 public:
  explicit patient_for(char const* seconds) { setenv("HULL_PATIENCE", seconds, 1); }
  patient_for(patient_for const&) = delete;
  patient_for& operator=(patient_for const&) = delete;
  ~patient_for() { unsetenv("HULL_PATIENCE"); }
};

/// The first of some ports of this host that nobody has.
std::uint16_t free_port() {
  for (;;) {
    tcp::endpoint const any = tcp::resolve("127.0.0.1", tcp::in_seconds(1)).at(0);
    std::uint16_t const first = tcp::port_of(tcp::listen_at(any));
    bool all = first + launch::ports < 65536;
    for (unsigned i = 0; all && i < launch::ports; ++i) {
      tcp::endpoint at = any;
      at.set_port(static_cast<std::uint16_t>(first + i));
      all = static_cast<bool>(tcp::listen_at(at));
    }
    if (all) return first;
  }
}

launch over_tcp(std::size_t ranks) {
  launch l;
  l.size = ranks;
  l.address = "127.0.0.1";
  l.port = free_port();
  l.job = "test " + std::to_string(getpid()) + " " + std::to_string(l.port);
  return l;
}

launch over_file(std::size_t ranks) {
  launch l;
  l.size = ranks;
  l.file = fs::temp_directory_path() / ("hull-rendezvous-" + std::to_string(getpid()));
  return l;
}

launch as(launch l, std::size_t rank) {
  l.rank = rank;
  return l;
}

/// Calls body(place) in one thread for each place; the message of each that throws, else nothing.
template <class Body>
std::vector<std::string> told(std::vector<launch> const& places, Body&& body) {
  std::vector<std::string> all(places.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < places.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        body(places[i]);
      } catch (error const& e) {
        all[i] = e.what() + std::string(e.kind() == fault::device ? " (3)" : " (2)");
      }
    });
  }
  for (auto& one : threads) one.join();
  return all;
}

std::vector<launch> ranks_of(launch const& l) {
  std::vector<launch> all;
  for (std::size_t r = 0; r < l.size; ++r) all.push_back(as(l, r));
  return all;
}

void meet(launch const& place) { Rendezvous const ranks(place); }

template <Communicator C>
bool collectives_agree(C& ranks) {
  bool good = true;
  std::size_t const size = ranks.size(), rank = ranks.rank();
  for (std::size_t const count : {1, 7, 100'000}) {
    std::vector<std::size_t> part(count), all(count * size);
    for (std::size_t i = 0; i < count; ++i) part[i] = 1000 * rank + i;
    ranks.all_gather(reinterpret_cast<std::byte const*>(part.data()), reinterpret_cast<std::byte*>(all.data()),
                     count * sizeof part[0]);
    for (std::size_t i = 0; i < all.size(); ++i) good = good && all[i] == 1000 * (i / count) + i % count;

    // in any other order than that of ranks these have other sums
    auto const term = [](std::size_t r, std::size_t i) {
      return (r % 2 == 0 ? 1.0F : -1.0F) * std::ldexp(1.0F + static_cast<float>(i % 97) / 97, static_cast<int>(9 * r));
    };
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = term(rank, i);
    ranks.sum(values.data(), count);
    for (std::size_t i = 0; i < count; ++i) {
      float sum = 0;
      for (std::size_t r = 0; r < size; ++r) sum += term(r, i);
      good = good && std::memcmp(&sum, &values[i], sizeof sum) == 0;
    }
  }
  double one = 0.5;
  ranks.sum(&one, 1);
  good = good && one == 0.5 * static_cast<double>(size);
  return good && ranks.any(1U << rank) == (1U << size) - 1;
}

}  // namespace

TEST_CASE("ranks meet, and their collectives agree") {
  for (std::size_t const size : {1, 2, 3, 4, 8}) {
    for (bool const file : {false, true}) {
      CAPTURE(size);
      CAPTURE(file);
      std::atomic<std::size_t> good = 0, local = 0;
      auto const errors = told(ranks_of(file ? over_file(size) : over_tcp(size)), [&](launch const& place) {
        Rendezvous ranks(place);
        local += ranks.local_rank() == place.rank ? 1 : 0;  // one host
        std::atomic<bool> behind = false;
        std::thread other([&] { behind = collectives_agree(ranks.background()); });
        AnyCommunicator any(ranks);
        bool const before = collectives_agree(ranks) && collectives_agree(any);
        other.join();
        auto const blob = ranks.broadcast(std::vector<std::byte>(ranks.rank() == 0 ? 128 : 1, std::byte{42}));
        good += before && behind && blob == std::vector<std::byte>(128, std::byte{42}) ? 1 : 0;
      });
      for (auto const& one : errors) CHECK(one.empty());
      CHECK(good == size);
      CHECK(local == size);
      CHECK_FALSE(fs::exists(over_file(size).file));
    }
  }
}

TEST_CASE("a rank that never joins is named on all others") {
  patient_for const two("2");
  for (bool const file : {false, true}) {
    auto places = ranks_of(file ? over_file(3) : over_tcp(3));
    std::swap(places[1], places[2]);
    places.pop_back();
    for (auto const& one : told(places, meet)) CHECK(one == "rank 1 has not joined for 2 seconds (3)");
    auto const without_first = file ? over_file(3) : over_tcp(3);
    for (auto const& one : told({as(without_first, 1), as(without_first, 2)}, meet)) {
      CHECK(one.starts_with("rank 0 has not joined for 2 seconds"));
    }
  }
}

TEST_CASE("ranks that disagree about their numbers") {
  patient_for const some("5");
  for (bool const file : {false, true}) {
    for (auto const& one : told({as(file ? over_file(3) : over_tcp(3), 0)}, [&](launch const& first) {
           auto const errors = told({first, as(first, 1), as(first, 1)}, meet);
           std::size_t same = 0;
           for (auto const& text : errors) same += text == "two ranks have the number 1 (2)" ? 1 : 0;
           CHECK(same >= 2);  // the third may come when rank 0 is gone
         })) {
      CHECK(one.empty());
    }
    auto const one_of_two = file ? over_file(2) : over_tcp(2);
    auto one_of_three = as(one_of_two, 1);
    one_of_three.size = 3;
    for (auto const& one : told({one_of_two, one_of_three}, meet)) {
      CHECK(one == "rank 1 was started as one of 3 ranks, rank 0 as one of 2 (2)");
    }
  }
  auto const twice = over_tcp(2);
  for (auto const& one : told({twice, twice}, meet)) CHECK(one == "two ranks have the number 0 (2)");
}

TEST_CASE("whoever is no rank of this job is ignored") {
  auto const place = over_tcp(2);
  auto other_job = as(place, 1);
  other_job.job = "another";
  std::atomic<bool> met = false, scanned = false;
  std::thread scanner([&] {
    tcp::endpoint at = tcp::resolve("127.0.0.1", tcp::in_seconds(1)).at(0);
    at.set_port(place.port);
    tcp::socket silent;
    for (int said = 0; said < 3 && !met;) {
      tcp::socket one = tcp::connect_to(at, tcp::in_seconds(1));
      if (!one) continue;
      std::string const text = said == 0 ? "GET / HTTP/1.1\r\nHost: here\r\n\r\n" : "?";
      static_cast<void>(one.send_all(text.data(), text.size(), tcp::after_seconds(1)));
      if (said++ == 2) silent = std::move(one);
    }
    scanned = true;
    while (!met) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
  patient_for const some("4");
  auto const errors = told({place, other_job, as(place, 1)}, [&](launch const& l) {
    while (l.rank == 1 && l.job == place.job && !scanned) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    Rendezvous ranks(l);
    static_cast<void>(ranks.any(0));
    met = true;
  });
  met = true;
  scanner.join();
  CHECK(errors[0].empty());
  CHECK(errors[1].starts_with("rank 0 has not joined for 4 seconds"));
  CHECK(errors[2].empty());
}

TEST_CASE("a port that somebody has is passed over") {
  auto const place = over_tcp(3);
  tcp::endpoint at = tcp::resolve("127.0.0.1", tcp::in_seconds(1)).at(0);
  at.set_port(place.port);
  tcp::socket const taken = tcp::listen_at(at);
  REQUIRE(static_cast<bool>(taken));
  for (auto const& one : told(ranks_of(place), meet)) CHECK(one.empty());
}

TEST_CASE("a file that an earlier job has left") {
  auto const place = over_file(2);
  std::ofstream(place.file) << "hull-rendezvous 12345\n127.0.0.1 " << free_port() << '\n';
  for (auto const& one : told(ranks_of(place), meet)) CHECK(one.empty());
  auto nowhere = place;
  nowhere.file = "/nowhere/hull";
  CHECK(told({nowhere}, meet)[0].starts_with("HULL_RENDEZVOUS: /nowhere/hull: cannot write"));
}

TEST_CASE("a host that is not known") {
  patient_for const one("1");
  auto place = over_tcp(2);
  place.address = "no.such.host.invalid";
  for (auto const& text : told(ranks_of(place), meet)) CHECK(text.starts_with("MASTER_ADDR: the host 'no.such"));
}

TEST_CASE("a rank that fails ends the others' collectives with its message") {
  for (std::size_t const bad : {0, 1, 2}) {
    std::map<std::string, std::size_t> handled;
    std::mutex lock;
    auto const errors = told(ranks_of(over_tcp(3)), [&](launch const& place) {
      Rendezvous ranks(place, [&](std::string const& why) {
        std::scoped_lock const hold(lock);
        ++handled[why];
      });
      if (place.rank == bad) {
        ranks.fail("no memory left");
        throw error("no memory left", fault::device);
      }
      for (;;) static_cast<void>(ranks.any(0));
    });
    std::string const why = "rank " + std::to_string(bad) + " failed: no memory left";
    for (std::size_t r = 0; r < 3; ++r) CHECK(errors[r] == (r == bad ? "no memory left (3)" : why + " (3)"));
    CHECK(handled == std::map<std::string, std::size_t>{{why, 2}});
  }
}

TEST_CASE("a rank that throws and a rank that leaves do not leave others waiting") {
  auto const thrown = told(ranks_of(over_tcp(3)), [&](launch const& place) {
    Rendezvous ranks(place);
    if (place.rank == 1) throw error("odd");
    for (;;) static_cast<void>(ranks.any(0));
  });
  CHECK(thrown[0] == "rank 1 failed: an exception has ended it (3)");
  CHECK(thrown[2] == thrown[0]);
  auto const left = told(ranks_of(over_tcp(2)), [&](launch const& place) {
    Rendezvous ranks(place);
    while (place.rank == 0) static_cast<void>(ranks.any(0));
  });
  CHECK(left[0] == "rank 1 has left the others (3)");
}

TEST_CASE("a rank that is killed, or stopped, is named by all others") {
  patient_for const two("2");
  constexpr std::size_t size = 4;
  for (int const signal : {SIGKILL, SIGSTOP}) {
    for (std::size_t const victim : {0, 2}) {
      CAPTURE(signal);
      CAPTURE(victim);
      auto const place = over_tcp(size);
      std::vector<pid_t> ranks;
      std::vector<int> says;
      for (std::size_t r = 0; r < size; ++r) {
        int ends[2];
        REQUIRE(pipe(ends) == 0);
        says.push_back(ends[0]);
        ranks.push_back(fork());
        if (ranks.back() != 0) {
          close(ends[1]);
          continue;
        }
        auto const say = [&](std::string const& text) { return write(ends[1], text.data(), text.size()); };
        try {
          Rendezvous here(as(place, r));
          static_cast<void>(here.any(0));
          static_cast<void>(say("!"));
          for (;;) static_cast<void>(here.any(0));
        } catch (std::exception const& e) {
          static_cast<void>(say(e.what()));
        }
        _exit(3);
      }
      for (int const from : says) {
        char ready = 0;
        CHECK(read(from, &ready, 1) == 1);
      }
      kill(ranks[victim], signal);
      auto const start = std::chrono::steady_clock::now();
      for (std::size_t r = 0; r < size; ++r) {
        if (r == victim) continue;
        std::string text;
        for (char c = 0; read(says[r], &c, 1) == 1;) text += c;
        CHECK(text ==
              "rank " + std::to_string(victim) +
                  (signal == SIGKILL ? " is gone: its connection has closed" : " has been silent for 2 seconds"));
      }
      double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      CHECK(seconds < (signal == SIGKILL ? 4 : 6));
      kill(ranks[victim], SIGKILL);
      for (pid_t const one : ranks) waitpid(one, nullptr, 0);
      for (int const from : says) close(from);
    }
  }
}
