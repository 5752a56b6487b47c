// SPDX-License-Identifier: Apache-2.0
// Runs a command on the ranks that were asked for: one, threads of this process, or processes that a launcher started.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>
#include <hull/io/certificate_file.hpp>
#include <hull/io/file.hpp>
#include <hull/io/model.hpp>
#include <hull/shard/any_communicator.hpp>
#include <hull/shard/loopback.hpp>
#include <hull/shard/rendezvous.hpp>
#ifdef HULL_MPI
#include <hull/shard/mpi.hpp>
#endif

#include "options.hpp"

namespace hull::cli {

/// What this program was built with.
[[nodiscard]] inline std::vector<std::string> communicators() {
#ifdef HULL_MPI
  return {"solo", "loopback", "mpi", "nccl"};
#else
  return {"solo", "loopback", "nccl"};
#endif
}

/// Ends a process of which another one tells why.
class silent_end final : public std::exception {
 public:
  [[nodiscard]] char const* what() const noexcept override { return "another rank has failed"; }
};

/// The ranks of this process, and those it talks to.
class rank_group final {
 public:
  /// Joins the others where `--comm mpi` or `--comm nccl` asks for it. With the latter these are ranks on the host; the
  /// compiled network starts NCCL from them. Throws hull::error if the numbers do not fit.
  explicit rank_group(options const& o) : count_(o.ranks), loopback_(o.comm == "loopback") {
    bool const several = o.ranks > 1;
    expect(o.certificate.empty() || (o.comm == "solo" && !several), "--certificate needs one rank: --comm solo");
    bool const nccl = o.comm == "nccl";
    expect(o.device == "cpu" || nccl || (o.comm == "solo" && !several),
           "--device cuda works with one rank (--comm solo), or with --comm nccl");
    expect(!nccl || o.device == "cuda", "--comm nccl needs --device cuda");
    expect(!several || o.comm != "solo",
           "--ranks " + std::to_string(o.ranks) + " needs --comm loopback, --comm mpi or --comm nccl");
    if (nccl) {
      met_ = std::make_unique<Rendezvous>(read_launch(), say_and_exit);
      all_ = std::make_unique<AnyCommunicator>(*met_);
      expect_count(o, met_->size());
      count_ = met_->size();
    }
#ifdef HULL_MPI
    if (o.comm == "mpi") {
      mpi_ = std::make_unique<Mpi>();
      all_ = std::make_unique<AnyCommunicator>(*mpi_);
      expect_count(o, mpi_->size());
      count_ = mpi_->size();
      share_threads(1);  // mpirun binds each process to cores of its own
    }
#endif
  }

  [[nodiscard]] std::size_t size() const { return count_; }

  /// Of this process.
  [[nodiscard]] std::size_t rank() const { return all_ == nullptr ? 0 : all_->rank(); }

  /// Whether this process reports: one of all does.
  [[nodiscard]] bool reports() const { return rank() == 0; }

  /// Whether this rank is a process of its own.
  [[nodiscard]] bool owns_process() const { return all_ != nullptr; }

  /// Calls work() on all ranks. If it throws on one, it does on all; where the first rank failed too, only that speaks.
  template <class Work>
  auto together(Work&& work) -> decltype(work()) {
    std::exception_ptr mine;
    std::optional<decltype(work())> result;
    try {
      result.emplace(work());
    } catch (...) {
      mine = std::current_exception();
    }
    unsigned const failed = !mine ? 0U : rank() == 0 ? 3U : 1U;
    unsigned const all = all_ == nullptr ? failed : all_->any(failed);
    if (all != 0) leave();
    if (mine && ((all & 2U) == 0 || rank() == 0)) std::rethrow_exception(mine);
    if (all != 0) throw silent_end();
    return std::move(*result);
  }

  /// The same on the first rank, before the others.
  template <class Work>
  auto first_then_all(Work&& work) -> decltype(work()) {
    std::optional<decltype(work())> result;
    together([&] {
      if (rank() == 0) result.emplace(work());
      return true;
    });
    together([&] {
      if (rank() != 0) result.emplace(work());
      return true;
    });
    return std::move(*result);
  }

  /// Throws hull::error that names a rank with another model or specification than the first one's. Costs nothing
  /// where there is one process.
  void expect_equal(io::model const& model, std::string const& spec_path) {
    if (all_ == nullptr) return;
    io::certificate_subject const mine = io::subject_of(model, io::read_file(spec_path));
    std::vector<io::certificate_subject> all(all_->size());
    all_->all_gather(reinterpret_cast<std::byte const*>(&mine), reinterpret_cast<std::byte*>(all.data()), sizeof mine);
    for (std::size_t r = 1; r < all.size(); ++r) {
      bool const model_differs = all[r].model != all[0].model;
      if (!model_differs && all[r].specification == all[0].specification) continue;
      leave();
      if (rank() != 0) throw silent_end();
      throw error(
          "rank " + std::to_string(r) + " has another " + (model_differs ? "model" : "specification") + " than rank 0",
          fault::device);
    }
  }

  /// Calls body(ranks) for each rank of this process; null for one rank that is alone. Returns what the first one did.
  template <class Body>
  auto run(Body&& body) -> decltype(body(static_cast<AnyCommunicator*>(nullptr))) {
    if (all_ != nullptr) {
      try {
        return body(all_.get());
      } catch (std::exception const& e) {
        all_->fail(e.what());
        throw;
      }
    }
    if (!loopback_) return body(nullptr);
    decltype(body(static_cast<AnyCommunicator*>(nullptr))) result;
    Loopback::run(count_, [&](Loopback& ranks) {
      share_threads(count_);
      AnyCommunicator all(ranks);
      auto mine = body(&all);
      if (ranks.rank() == 0) result = std::move(mine);
    });
    return result;
  }

 private:
  void expect_count(options const& o, std::size_t started) {
    if (!o.ranks_given || o.ranks == started) return;
    leave();
    if (rank() != 0) throw silent_end();
    throw error("--ranks " + std::to_string(o.ranks) + ", but " + (o.comm == "mpi" ? "mpirun" : "the launcher") +
                " started " + std::to_string(started) + " ranks");
  }

  /// Before an exception that all ranks throw.
  void leave() {
    if (met_) met_->leave();
  }

  /// Of the threads that this process may use, each of its ranks gets the same number.
  static void share_threads([[maybe_unused]] std::size_t ranks) {
#ifdef _OPENMP
    omp_set_num_threads(std::max(1, omp_get_num_procs() / static_cast<int>(ranks)));
#endif
  }

  std::size_t count_;
  bool loopback_;
#ifdef HULL_MPI
  std::unique_ptr<Mpi> mpi_;
#endif
  std::unique_ptr<Rendezvous> met_;
  std::unique_ptr<AnyCommunicator> all_;
};

}  // namespace hull::cli
