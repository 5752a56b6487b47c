// SPDX-License-Identifier: Apache-2.0
// --device cuda where something is missing: status 3 and one line that names it; and the precision of its products.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

#include "../../tools/cli/compiled_network.hpp"
#include "../../tools/cli/plan.hpp"
#include "../io/onnx_graph.hpp"
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
  fails(2, "verify " + both + " --comm nccl", "--device cuda");
  fails(2, "verify " + both + " --comm nccl --device cuda", "torchrun", "env -u RANK -u WORLD_SIZE -u SLURM_PROCID");
  fails(2, "verify " + both + " --comm nccl --device cuda", "WORLD_SIZE is not", "RANK=0 WORLD_SIZE=");
}

TEST_CASE("precisions that do not go with the device, or are none") {
  for (std::string const& command : {"verify " + both, "bounds " + both, "plan " + mlp}) {
    fails(2, command + " --device cuda --precision half", "half not in {fp32,tf32x3,fp16x3}");
    fails(2, command + " --precision tf32x3", "--precision tf32x3 needs --device cuda");
    fails(2, command + " --device cpu --precision fp16x3", "--precision fp16x3 needs --device cuda");
  }
}

TEST_CASE("the precision is part of the program, and so of its name in the cache") {
  hull::cli::options o;
  o.device = "cuda";
  std::vector<std::string> programs, plans;
  for (char const* type : {"Fp32", "Tf32x3", "Fp16x3"}) {
    o.precision = type;
    std::transform(o.precision.begin(), o.precision.end(), o.precision.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    programs.push_back(hull::cli::driver_text(o, 1));
    plans.push_back(hull::cli::plan_driver_text(o));
    for (auto const& text : {programs.back(), plans.back()}) CHECK(text.find(type) != std::string::npos);
  }
  for (auto* texts : {&programs, &plans}) {
    std::sort(texts->begin(), texts->end());
    CHECK(std::adjacent_find(texts->begin(), texts->end()) == texts->end());
  }
}

TEST_CASE("pairs of halfs: refused before they are compiled for GPUs that cannot multiply them") {
  if (!has_nvcc()) return;
  for (auto const* command : {"verify", "bounds"}) {
    fails(3, std::string(command) + " " + both + " --device cuda --precision fp16x3", "needs compute capability 9.0",
          "HULL_CUDA_ARCH=80");
  }
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
  fails(3, "bounds " + both + " --device cuda --precision fp16x3", "CUDA: no device", "HULL_CUDA_ARCH=90");
  fails(3, "verify " + both + " --device cuda", "compiler", "HULL_CUDA_ARCH=20");  // nvcc knows no such device
}

TEST_CASE("a GPU: the report names the precision") {
  if (!has_nvcc() || !has_device()) return;
  for (std::string const precision : {"tf32x3", "fp16x3"}) {
    auto const result = run("bounds " + both + " --method crown --device cuda --precision " + precision);
    CAPTURE(result.text);
    if (precision == "fp16x3" && result.status == 3) {
      CHECK(result.text.find("needs compute capability 9.0") != std::string::npos);
      continue;
    }
    REQUIRE(result.status == 0);
    CHECK(nlohmann::json::parse(result.text)["precision"] == precision);
  }
}

TEST_CASE("plan needs no GPU, and has all policies") {
  if (!can_only_compile()) return;
  auto const result = run("plan " + mlp + " --device cuda --shard fully-sharded --ranks 2");
  CAPTURE(result.text);
  CHECK(result.status == 0);
  for (std::string const text : {"replicated", "tensor-parallel", "parameters, two blocks of all ranks"}) {
    CHECK(result.text.find(text) != std::string::npos);
  }
}

TEST_CASE("plan has the scratch of the precision") {
  if (!can_only_compile()) return;
  std::int64_t const wide = 600;  // stages of more than 512 neurons are those on tensor cores
  test::onnx_graph g({1, 4});
  std::string last = "x";
  std::int64_t inputs = 4;
  for (std::int64_t const outputs : {wide, wide, std::int64_t{2}}) {
    std::string const name = std::to_string(g.proto.graph().node_size());
    g.constant("w" + name, {outputs, inputs}, test::floats(static_cast<std::size_t>(outputs * inputs), 0.5F));
    g.constant("b" + name, {outputs}, test::floats(static_cast<std::size_t>(outputs), 0.0F));
    test::set(g.node("Gemm", {last, "w" + name, "b" + name}, {outputs == 2 ? "y" : "z" + name}), "transB", 1);
    if (outputs == 2) break;
    g.node("Relu", {"z" + name}, {"r" + name});
    last = "r" + name;
    inputs = outputs;
  }
  fs::path const scratch = fs::temp_directory_path() / ("hull_device_test_" + std::to_string(getpid()));
  fs::create_directories(scratch);
  fs::path const model = scratch / "wide.onnx", report = scratch / "plan.json";
  std::ofstream(model, std::ios::binary) << g.proto.SerializeAsString();
  std::vector<std::size_t> bytes;
  for (std::string const precision : {"fp32", "fp16x3"}) {
    auto const result =
        run("plan " + model.string() + " --device cuda --precision " + precision + " --json " + report.string());
    CAPTURE(result.text);
    REQUIRE(result.status == 0);
    CHECK(result.text.find("precision " + precision) != std::string::npos);
    bytes.push_back(nlohmann::json::parse(std::ifstream(report))[0]["bytes"]);
  }
  // a panel of 4096 rows and the weights, 600 terms of 4 bytes
  CHECK(bytes[1] > bytes[0] + std::size_t{4096 + 600} * 600 * 4);
  fs::remove_all(scratch);
}
