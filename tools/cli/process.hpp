// SPDX-License-Identifier: Apache-2.0
// Runs a program with its output in a file, for at most some seconds.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>

namespace hull::cli {

/// Starts this program again where OpenMP's threads would wait for each other in long loops: on a busy machine they
/// keep the cores from those that work (a quarter of the domains, measured beside two other processes on two cores).
/// The runtime reads this before main. Goes on as it is if the user has said how to wait, or if that fails.
inline void wait_in_short_loops([[maybe_unused]] char** arguments) {
#ifdef _OPENMP
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "2000", 1);
  execv("/proc/self/exe", arguments);
#endif
}

/// Exit status of the program; 127 if it could not be started. Kills its process group and throws deadline_passed when
/// `end` passes first.
inline int run_process(std::vector<std::string> const& command, std::filesystem::path const& log, deadline const& end) {
  std::vector<char*> arguments;
  for (auto const& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);

  end.check();
  pid_t const child = fork();
  if (child < 0) throw error("cannot start " + command.front(), fault::device);
  if (child == 0) {
    setpgid(0, 0);
    int const file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file >= 0) {
      dup2(file, STDOUT_FILENO);
      dup2(file, STDERR_FILENO);
    }
    execvp(arguments.front(), arguments.data());
    _exit(127);
  }
  setpgid(child, child);  // here too: who comes first is open, and below the group must exist
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (end.passed()) {
      kill(-child, SIGKILL);
      waitpid(child, &status, 0);
      throw deadline_passed();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace hull::cli
