// SPDX-License-Identifier: Apache-2.0
// --device cuda where something is missing: status 3 and one line that names it.
#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <unistd.h>

#include "run.hpp"

namespace {

namespace fs = std::filesystem;
using hull::reference::run;

std::string const digits = HULL_SOURCE_DIR "/examples/digits/";
std::string const mlp = digits + "mlp.onnx";
std::string const both = mlp + " " + digits + "properties/mlp_600_0.04.vnnlib";

/// Ends with this status and one line that has `what`.
void fails(int status, std::string const& arguments, std::string const& what, std::string const& environment = "") {
  CAPTURE(arguments);
  CAPTURE(environment);
  auto const result = run(arguments, environment);
  CAPTURE(result.text);
  CHECK(result.status == status);
  CHECK(std::count(result.text.begin(), result.text.end(), '\n') == 1);
  CHECK(result.text.starts_with("hull: "));
  CHECK(result.text.find(what) != std::string::npos);
}

bool has_nvcc() { return std::system("command -v \"${CUDACXX:-nvcc}\" /usr/local/cuda/bin/nvcc >/dev/null 2>&1") == 0; }
bool has_device() { return fs::exists("/dev/nvidiactl"); }

/// Whether nvcc is here and a GPU is not.
bool can_only_compile() {
  if (has_nvcc() && !has_device()) return true;
  MESSAGE("needs a machine with nvcc and without a GPU: skipped");
  return false;
}

}  // namespace

TEST_CASE("a compiler that is not there") {
  for (auto const* command : {"verify", "bounds"}) {
    fails(3, std::string(command) + " " + both + " --device cuda", "CUDACXX", "CUDACXX=/nowhere/nvcc");
  }
  fails(3, "plan " + mlp + " --device cuda", "CUDACXX", "CUDACXX=/nowhere/nvcc");
}

TEST_CASE("arguments that do not go with a GPU") {
  fails(2, "verify " + both + " --device tpu", "tpu");
  fails(2, "verify " + both + " --device cuda --comm loopback --ranks 2", "one rank");
  fails(2, "plan " + mlp + " --device cuda --shard fully-sharded", "fully-sharded");
  fails(2, "verify " + both + " --comm nccl", "--device cuda");
  fails(2, "verify " + both + " --comm nccl --device cuda", "torchrun", "env -u RANK -u WORLD_SIZE -u SLURM_PROCID");
  fails(2, "verify " + both + " --comm nccl --device cuda", "WORLD_SIZE is not", "RANK=0 WORLD_SIZE=");
}

TEST_CASE("no GPU: nothing is compiled") {
  if (!can_only_compile()) return;
  fails(2, "verify " + both + " --device cuda", "HULL_CUDA_ARCH", "HULL_CUDA_ARCH=quick");
  for (auto const* command : {"verify", "bounds"})
    fails(3, std::string(command) + " " + both + " --device cuda", "CUDA: no device");
}

TEST_CASE("no GPU: what was compiled says so") {
  if (!can_only_compile()) return;
  fails(3, "verify " + both + " --device cuda", "CUDA: no device", "HULL_CUDA_ARCH=80");
  fails(3, "bounds " + both + " --device cuda", "CUDA: no device", "HULL_CUDA_ARCH=80");
  fails(3, "verify " + both + " --device cuda", "compiler", "HULL_CUDA_ARCH=20");  // nvcc knows no such device
}

TEST_CASE("plan needs no GPU") {
  if (!can_only_compile()) return;
  auto const result = run("plan " + mlp + " --device cuda");
  CAPTURE(result.text);
  CHECK(result.status == 0);
  CHECK(result.text.find("replicated") != std::string::npos);
}
