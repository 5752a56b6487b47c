// SPDX-License-Identifier: Apache-2.0
// What the program that started the ranks tells each of them, in its environment: torchrun, srun, mpirun, or a script.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <hull/core/error.hpp>

namespace hull {

/// Where a rank stands, and where it meets the others.
struct launch final {
  std::size_t rank = 0, size = 1;
  std::optional<std::size_t> local_rank;  // among the ranks of one host
  std::string file;                       // in a folder that all see; rank 0 writes there where it is. Empty: see below
  std::string address;                    // of rank 0's host
  std::uint16_t port = 0;                 // the first of `ports` that rank 0 tries
  std::string job;                        // tells this job's ranks from those of another one on the same host
  static constexpr unsigned ports = 4;
};

/// Value of an environment variable, null if there is none.
using environment_lookup = std::function<char const*(char const* name)>;

namespace detail {

class launch_reader final {
 public:
  explicit launch_reader(environment_lookup const& lookup) : lookup_(&lookup) {}

  [[nodiscard]] launch read() const {
    launch l;
    if (has("RANK") || has("WORLD_SIZE")) {
      place(l, "RANK", "WORLD_SIZE", "LOCAL_RANK");
      l.job = "torch " + text("TORCHELASTIC_RUN_ID");
    } else if (has("OMPI_COMM_WORLD_RANK")) {
      place(l, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK");
      l.job = "mpirun " + text("PMIX_NAMESPACE");
    } else if (has("SLURM_PROCID")) {
      place(l, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID");
      l.job = "srun " + text("SLURM_JOB_ID") + "." + text("SLURM_STEP_ID");
    } else {
      throw error(
          "nothing says which rank this is: start it with torchrun, srun or mpirun, or set RANK, WORLD_SIZE, "
          "MASTER_ADDR and MASTER_PORT");
    }
    l.file = text("HULL_RENDEZVOUS");
    if (l.size > 1 && l.file.empty()) meeting_place(l);
    return l;
  }

  /// The first of these that is set.
  [[nodiscard]] std::optional<std::size_t> local_rank() const {
    for (char const* name : {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}) {
      if (has(name)) return number(name);
    }
    return {};
  }

 private:
  [[nodiscard]] std::string text(char const* name) const {
    char const* const value = (*lookup_)(name);
    return value == nullptr ? "" : value;
  }
  [[nodiscard]] bool has(char const* name) const { return !text(name).empty(); }

  [[nodiscard]] std::size_t number(char const* name) const {
    std::string const value = text(name);
    bool const good = value.size() < 10 && value.find_first_not_of("0123456789") == std::string::npos;
    expect(good && !value.empty(), std::string(name) + ": found '" + value + "', expected a number");
    return std::stoul(value);
  }

  void place(launch& l, char const* rank, char const* size, char const* local) const {
    for (auto const& [set, other] : {std::pair(rank, size), std::pair(size, rank)}) {
      expect(!has(set) || has(other), std::string(set) + " is set, " + other + " is not");
    }
    l.rank = number(rank);
    l.size = number(size);
    expect(l.size > 0, std::string(size) + " is 0, expected 1 or more");
    expect(l.rank < l.size, std::string(rank) + " is " + text(rank) + ", but " + size + " is " + text(size) +
                                ": ranks are numbered from 0");
    if (has(local)) l.local_rank = number(local);
  }

  void meeting_place(launch& l) const {
    l.address = text("MASTER_ADDR");
    if (l.address.empty()) {
      expect(!has("RANK"), "RANK is set, MASTER_ADDR is not: expected the host of rank 0");
      expect(on_one_host(),
             "ranks on several hosts need MASTER_ADDR, the host of rank 0, or HULL_RENDEZVOUS, a file in "
             "a folder that all hosts see");
      l.address = "127.0.0.1";
    }
    if (has("MASTER_PORT")) {
      std::size_t const port = number("MASTER_PORT");
      expect(port > 0 && port + launch::ports < 65536,
             "MASTER_PORT is " + text("MASTER_PORT") + ", expected 1 to 65531");
      // torchrun's agent itself listens at MASTER_PORT
      l.port = static_cast<std::uint16_t>(port + (text("TORCHELASTIC_USE_AGENT_STORE") == "True" ? 1 : 0));
    } else {
      expect(!has("RANK"), "RANK is set, MASTER_PORT is not: expected a free port of rank 0's host");
      // below the ports that systems give to clients; another job that has the same one is told apart by its name
      l.port = static_cast<std::uint16_t>(20000 + std::hash<std::string>{}(l.job) % 12000);
    }
    l.job += ' ';  // apart: gcc 12 warns of std::string's own code otherwise
    l.job += std::to_string(l.port);
  }

  [[nodiscard]] bool on_one_host() const {
    if (has("OMPI_COMM_WORLD_RANK")) return text("OMPI_COMM_WORLD_SIZE") == text("OMPI_COMM_WORLD_LOCAL_SIZE");
    std::string const nodes = has("SLURM_STEP_NUM_NODES") ? text("SLURM_STEP_NUM_NODES") : text("SLURM_NNODES");
    return nodes == "1";
  }

  environment_lookup const* lookup_;
};

}  // namespace detail

/// Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them; else what mpirun (Open MPI)
/// or srun (Slurm) set, which need the latter two only for several hosts. HULL_RENDEZVOUS, a file, goes before
/// MASTER_ADDR and MASTER_PORT. Throws hull::error that names the variable.
[[nodiscard]] inline launch read_launch(environment_lookup const& lookup = [](char const* name) {
  return std::getenv(name);
}) {
  return detail::launch_reader(lookup).read();
}

/// This process's number among those of its host, if its launcher tells. Throws hull::error if it is no number.
[[nodiscard]] inline std::optional<std::size_t> told_local_rank(
    environment_lookup const& lookup = [](char const* name) { return std::getenv(name); }) {
  return detail::launch_reader(lookup).local_rank();
}

}  // namespace hull
