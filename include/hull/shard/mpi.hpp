// SPDX-License-Identifier: Apache-2.0
// Ranks as processes, on one host or many: MPI. The only header that needs mpi.h.
//
// MPI itself does not say who failed; a watch thread does. It beats for the others to hear, listens for them, and looks
// whether processes of the same host are alive. When a rank is lost it tells which and why, and ends this process with
// status 3: a collective that waits for a dead rank cannot be left in any other way.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mpi.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/propagate/share.hpp>
#include <hull/shard/communicator.hpp>
#include <hull/shard/lost_rank.hpp>

namespace hull {

class Mpi final {
 public:
  /// Joins the ranks that mpirun started. Once per process. Throws hull::error if MPI cannot be started for several
  /// threads. `lost` must not return; by default one line to stderr and exit status 3.
  explicit Mpi(lost_handler lost = say_and_exit) : lost_(std::move(lost)) {
    std::atomic<bool> joined = false;
    std::thread impatient([&] { wait_for_join(joined); });
    int given = 0;
    int const answer = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &given);
    joined = true;
    impatient.join();
    if (answer != MPI_SUCCESS || given < MPI_THREAD_MULTIPLE) {
      throw error("MPI cannot be used by several threads of a process", fault::device);
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
    MPI_Comm_dup(MPI_COMM_WORLD, &control_);
    read_rank();
    background_ = std::unique_ptr<Mpi>(new Mpi(*this));
    meet_peers();
    watch_ = std::thread([this] { watch(); });
  }
  Mpi(Mpi const&) = delete;
  Mpi& operator=(Mpi const&) = delete;
  ~Mpi() {
    if (!watch_.joinable()) {  // the background
      if (!failed_) MPI_Comm_free(&comm_);
      return;
    }
    if (!failed_) MPI_Barrier(comm_);  // nobody is watched beyond this point
    stop_ = true;
    watch_.join();
    if (failed_) return;  // others may hang in collectives: the end of the process has to do
    background_.reset();
    MPI_Comm_free(&comm_);
    MPI_Comm_free(&control_);
    MPI_Finalize();
  }

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    bool const in_place = part == all + rank_ * bytes;
    check(MPI_Allgather(in_place ? MPI_IN_PLACE : part, length(bytes), MPI_BYTE, all, length(bytes), MPI_BYTE, comm_));
  }

  void sum(float* values, std::size_t count) { add(values, count, MPI_FLOAT); }
  void sum(double* values, std::size_t count) { add(values, count, MPI_DOUBLE); }

  [[nodiscard]] unsigned any(unsigned bits) {
    check(MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_UNSIGNED, MPI_BOR, comm_));
    return bits;
  }

  /// Sends the reason to all ranks; their watch threads end them.
  void fail(std::string const& why) {
    if (first_ != nullptr) {
      first_->fail(why);
      return;
    }
    if (failed_.exchange(true)) return;
    std::string const text = why.substr(0, message_bytes - 1);
    std::vector<MPI_Request> sent;
    for (std::size_t r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      MPI_Isend(text.c_str(), static_cast<int>(text.size() + 1), MPI_CHAR, static_cast<int>(r), failure_tag, control_,
                &sent.emplace_back());
    }
    for (int tries = 0, done = 0; done == 0 && tries < 50; ++tries) {
      MPI_Testall(static_cast<int>(sent.size()), sent.data(), &done, MPI_STATUSES_IGNORE);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::this_thread::sleep_for(
        std::chrono::milliseconds(500));  // before mpirun sees this process end, and ends others
  }

  [[nodiscard]] Mpi& background() { return background_ ? *background_ : *this; }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr int failure_tag = 1, beat_tag = 2;
  static constexpr std::size_t message_bytes = 1024;
  static constexpr auto glance = std::chrono::milliseconds(50);  // between two looks of the watch thread
  static constexpr auto beat = std::chrono::milliseconds(500);

  /// The background of `first`.
  explicit Mpi(Mpi& first) : rank_(first.rank_), size_(first.size_), first_(&first) {
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
  }

  struct process final {
    std::array<char, 64> host{};
    long id = 0;
    unsigned long long start = 0;  // tells a process from a later one with the same number
  };

  void read_rank() {
    int rank = 0, size = 1;
    MPI_Comm_rank(comm_, &rank);
    MPI_Comm_size(comm_, &size);
    rank_ = static_cast<std::size_t>(rank);
    size_ = static_cast<std::size_t>(size);
  }

  void meet_peers() {
    process self;
    gethostname(self.host.data(), self.host.size() - 1);
    self.id = getpid();
    self.start = started(self.id);
    peers_.resize(size_);
    all_gather(reinterpret_cast<std::byte const*>(&self), reinterpret_cast<std::byte*>(peers_.data()), sizeof self);
  }

  /// When a process was started, by the kernel's clock; 0 if it is no more, or waits to be buried.
  static unsigned long long started(long id) {
    std::ifstream file("/proc/" + std::to_string(id) + "/stat");
    std::string text;
    std::getline(file, text, '\0');  // no exception where the process ends between opening and reading
    std::size_t const name_end = text.rfind(')');
    if (name_end == std::string::npos || text.size() < name_end + 3 || text[name_end + 2] == 'Z') return 0;
    char const* at = text.c_str() + name_end + 2;
    for (int field = 3; field < 22; ++field) at += std::strcspn(at, " ") + 1;
    return std::strtoull(at, nullptr, 10);
  }

  void watch() {
    std::vector<clock::time_point> heard(size_, clock::now());
    std::vector<MPI_Request> beats;
    char const nothing = 0;
    auto last = clock::now() - beat;
    while (!stop_) {
      if (clock::now() - last >= beat) {
        last = clock::now();
        std::erase_if(beats, [](MPI_Request& one) {
          int done = 0;
          MPI_Test(&one, &done, MPI_STATUS_IGNORE);
          return done != 0;
        });
        for (std::size_t r = 0; r < size_ && beats.size() < 64 * size_; ++r) {
          if (r == rank_) continue;
          MPI_Isend(&nothing, 1, MPI_CHAR, static_cast<int>(r), beat_tag, control_, &beats.emplace_back());
        }
      }
      listen(heard);
      for (std::size_t r = 0; r < size_ && !stop_; ++r) {
        if (r == rank_) continue;
        bool const here = peers_[r].host == peers_[rank_].host && peers_[rank_].start != 0;
        if (here && started(peers_[r].id) != peers_[r].start) {
          std::this_thread::sleep_for(glance);
          listen(heard);  // it may have said why
          if (!stop_)
            lost_("rank " + std::to_string(r) + " is gone: its process " + std::to_string(peers_[r].id) + " has ended");
        }
        if (std::chrono::duration<double>(clock::now() - heard[r]).count() > patience()) {
          lost_("rank " + std::to_string(r) + " has been silent for " + told_patience());
        }
      }
      std::this_thread::sleep_for(glance);
    }
    for (auto& one : beats) MPI_Request_free(&one);
  }

  /// Takes what other ranks have sent.
  void listen(std::vector<clock::time_point>& heard) {
    for (;;) {
      int found = 0;
      MPI_Status status;
      MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, control_, &found, &status);
      if (found == 0) return;
      std::array<char, message_bytes> text{};
      MPI_Recv(text.data(), message_bytes, MPI_CHAR, status.MPI_SOURCE, status.MPI_TAG, control_, MPI_STATUS_IGNORE);
      heard[static_cast<std::size_t>(status.MPI_SOURCE)] = clock::now();
      if (status.MPI_TAG == failure_tag && !failed_) {
        lost_("rank " + std::to_string(status.MPI_SOURCE) + " failed: " + text.data());
      }
    }
  }

  /// Ends the process if MPI_Init does not return, naming the ranks of this host that have not called it.
  void wait_for_join(std::atomic<bool> const& joined) const {
    char const* const job = std::getenv("PMIX_NAMESPACE");
    char const* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
    char const* const count = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    auto const mark = [&](std::string const& r) {
      std::string name = "/dev/shm/hull-join-" + std::string(job == nullptr ? "" : job) + "-" + r;
      for (char& c : name) c = c == '@' || c == ':' ? '-' : c;
      return name;
    };
    if (rank != nullptr) std::ofstream(mark(rank)) << "here";
    auto const start = clock::now();
    while (!joined && std::chrono::duration<double>(clock::now() - start).count() < patience())
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::string missing;
    for (int r = 0; !joined && count != nullptr && r < std::atoi(count); ++r) {
      if (!std::ifstream(mark(std::to_string(r)))) missing += " " + std::to_string(r);
    }
    if (rank != nullptr) std::remove(mark(rank).c_str());
    if (joined) return;
    if (missing.empty()) missing = " (unknown)";
    lost_("rank" + missing + " has not joined for " + told_patience());
  }

  /// Each rank adds up its part of the values, in the order of ranks, so that all get the same bits.
  template <class T>
  void add(T* values, std::size_t count, MPI_Datatype type) {
    std::vector<int> counts(size_), starts(size_), own_counts(size_), own_starts(size_);
    std::size_t const own = share_of(count, rank_, size_).size();
    for (std::size_t r = 0; r < size_; ++r) {
      row_range const part = share_of(count, r, size_);
      counts[r] = length(part.size());
      starts[r] = length(part.first);
      own_counts[r] = length(own);
      own_starts[r] = length(own * r);
    }
    std::vector<T> parts(own * size_), sums(own);
    check(MPI_Alltoallv(values, counts.data(), starts.data(), type, parts.data(), own_counts.data(), own_starts.data(),
                        type, comm_));
    for (std::size_t i = 0; i < own; ++i) {
      T sum = 0;
      for (std::size_t r = 0; r < size_; ++r) sum += parts[r * own + i];
      sums[i] = sum;
    }
    check(MPI_Allgatherv(sums.data(), length(own), type, values, counts.data(), starts.data(), type, comm_));
  }

  static int length(std::size_t count) {
    if (count > 0x7fffffff) throw error("MPI: a message has more than 2^31 elements", fault::device);
    return static_cast<int>(count);
  }
  static void check(int answer) {
    if (answer != MPI_SUCCESS) throw error("MPI: a collective failed", fault::device);
  }

  std::size_t rank_ = 0, size_ = 1;
  MPI_Comm comm_ = MPI_COMM_NULL, control_ = MPI_COMM_NULL;
  std::unique_ptr<Mpi> background_;
  Mpi* first_ = nullptr;  // whose background this is
  lost_handler lost_;
  std::vector<process> peers_;
  std::atomic<bool> stop_ = false, failed_ = false;
  std::thread watch_;
};

static_assert(Communicator<Mpi>);

}  // namespace hull
