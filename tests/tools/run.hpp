// SPDX-License-Identifier: Apache-2.0
// Runs the command line tool as a user does.
#pragma once

#include <array>
#include <cstdio>
#include <doctest/doctest.h>
#include <string>
#include <sys/wait.h>

namespace hull::reference {

struct outcome final {
  int status = -1;
  std::string text;  // stdout and stderr together
};

/// `environment`: settings before the command, as in a shell.
[[nodiscard]] inline outcome run(std::string const& arguments, std::string const& environment = "") {
  std::string const command = environment + " '" HULL_CLI "' " + arguments + " 2>&1";
  outcome result;
  FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 4096> chunk;
  for (std::size_t got; (got = fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) result.text.append(chunk.data(), got);
  int const status = pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return result;
}

}  // namespace hull::reference
