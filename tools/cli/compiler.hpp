// SPDX-License-Identifier: Apache-2.0
// How the system's compilers are called on a network: g++ or clang++ for the CPU, nvcc for the GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

#include <hull/core/error.hpp>

#include "options.hpp"

namespace hull::cli {

namespace fs = std::filesystem;

[[nodiscard]] inline std::string environment(char const* name, std::string const& otherwise = {}) {
  char const* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

/// A call without its input and output, and what the input file is called.
struct compiler_call final {
  std::vector<std::string> command;
  std::string source;
};

/// nvcc with its folder and version in the path, because binaries are kept by the text of the call. Throws hull::error.
[[nodiscard]] inline std::string find_nvcc() {
  std::string const own = environment("CUDACXX"), name = own.empty() ? "nvcc" : own;
  std::vector<fs::path> places;
  std::istringstream folders(environment("PATH"));
  if (name.find('/') != std::string::npos) {
    places.emplace_back(name);
  } else {
    for (std::string folder; std::getline(folders, folder, ':');) places.push_back(fs::path(folder) / name);
  }
  if (own.empty()) places.emplace_back("/usr/local/cuda/bin/nvcc");
  for (auto const& place : places) {
    std::error_code failed;
    if (!fs::is_regular_file(place, failed) || access(place.c_str(), X_OK) != 0) continue;
    return (fs::canonical(place.parent_path()) / place.filename()).string();
  }
  if (!own.empty()) throw error("--device cuda: CUDACXX is " + own + ", which is no program", fault::device);
  throw error("--device cuda needs nvcc: CUDACXX is not set, and it is neither in PATH nor in /usr/local/cuda/bin",
              fault::device);
}

/// NCCL as options of nvcc: its header, its library, and where that is looked for when the network is loaded. In
/// $NCCL_HOME, else with nvcc's toolkit, else with the system. Throws hull::error (fault::device).
[[nodiscard]] inline std::vector<std::string> nccl_options(fs::path const& nvcc) {
  std::string const own = environment("NCCL_HOME");
  std::vector<fs::path> homes{own};
  if (own.empty()) homes = {nvcc.parent_path().parent_path(), "/usr", "/usr/local"};
  for (auto const& home : homes) {
    std::error_code failed;
    if (!fs::exists(home / "include" / "nccl.h", failed)) continue;
    for (char const* folder : {"lib64", "lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"}) {
      for (char const* name : {"libnccl.so", "libnccl.so.2"}) {
        fs::path const library = home / folder / name;
        if (!fs::exists(library, failed)) continue;
        std::vector<std::string> options;
        for (auto const& word :
             {std::string("--no-as-needed"), library.string(), "-rpath=" + library.parent_path().string()}) {
          options.insert(options.end(), {"-Xlinker", word});  // nvcc knows no library that ends in .so.2
        }
        if (home != "/usr") options.insert(options.begin(), "-I" + (home / "include").string());
        return options;
      }
    }
  }
  throw error("--comm nccl needs NCCL: nccl.h and libnccl.so are " +
                  (own.empty() ? "neither with nvcc nor with the system; set NCCL_HOME to their folder"
                               : "not in NCCL_HOME, which is " + own),
              fault::device);
}

/// Compute capability of the first device, "90". It asks the driver, which is there wherever a GPU can be used, so that
/// this program needs no part of CUDA. Throws hull::error that says why there is no device.
[[nodiscard]] inline std::string device_architecture() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) throw error("CUDA: no device: no driver (libcuda.so.1) is installed", fault::device);
  auto const call = [driver](char const* function, auto... arguments) {
    using signature = int(decltype(arguments)...);
    auto* const found = reinterpret_cast<signature*>(dlsym(driver, function));
    int const status = found == nullptr ? -1 : found(arguments...);
    if (status == 0) return;
    throw error(std::string("CUDA: no device: ") + function + " fails with code " + std::to_string(status),
                fault::device);
  };
  constexpr int major = 75, minor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
  int device = 0;
  std::array<int, 2> version{};
  call("cuInit", 0U);
  call("cuDeviceGet", &device, 0);
  call("cuDeviceGetAttribute", &version[0], major, device);
  call("cuDeviceGetAttribute", &version[1], minor, device);
  return std::to_string(version[0]) + std::to_string(version[1]);
}

/// "80" and "90": one binary for each of these. $HULL_CUDA_ARCH, as in "80,90a", goes before what the device has: with
/// it networks can be compiled where there is no device. `plans`: nothing will run, any will do.
[[nodiscard]] inline std::vector<std::string> architectures(bool plans) {
  std::vector<std::string> found;
  std::istringstream asked(environment("HULL_CUDA_ARCH"));
  for (std::string one; std::getline(asked, one, ',');) found.push_back(one);
  if (found.empty()) found.push_back(plans ? "80" : device_architecture());
  for (auto& one : found) {
    expect(!one.empty() && one.find_first_not_of("0123456789abcdef") == std::string::npos,
           "HULL_CUDA_ARCH: found '" + one + "', expected numbers like 80 or 90a with commas between");
    if (one == "90") one = "90a";  // Hopper's own instructions
  }
  return found;
}

/// Throws hull::error (fault::device) where no binary can run in this precision: sooner than the GPU would.
inline void expect_precision_on(std::vector<std::string> const& targets, std::string const& precision) {
  if (precision != "fp16x3" || std::find(targets.begin(), targets.end(), "90a") != targets.end()) return;
  throw error(
      "CUDA: precision fp16x3 needs compute capability 9.0 (H100, H200), found sm_" + targets.front() + "; take tf32x3",
      fault::device);
}

/// gcc is as fast with this as with -O3, in less time. Square roots that set no errno vectorise.
[[nodiscard]] inline std::vector<std::string> optimised(std::string const& compiler) {
  if (compiler.find("clang") != std::string::npos) return {"-O3", "-fno-math-errno"};
  return {"-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic", "-fno-math-errno"};
}

/// The compiler for `o.device`. `plans`: the network will not run. Throws hull::error (fault::device) if there is no
/// compiler or no device.
[[nodiscard]] inline compiler_call network_compiler(options const& o, fs::path const& includes, bool plans) {
  std::string const host = environment("CXX", HULL_CXX);
  std::vector<std::string> flags = optimised(host);
  // hidden: every network is called `network`, and two of them may be open in one program
  flags.insert(flags.end(), {"-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden"});
  compiler_call call;
  if (o.device == "cpu") {
    call.source = "driver.cpp";
    call.command = {host, "-std=c++20"};
    call.command.insert(call.command.end(), flags.begin(), flags.end());
  } else {
    call.source = "driver.cu";
    call.command = {find_nvcc(),
                    "-ccbin",
                    host,
                    "-std=c++20",
                    "--expt-relaxed-constexpr",
                    "--extended-lambda",
                    "-diag-suppress",
                    "20208,186,445,1675,20011,20014,20050",
                    "-cudart",
                    "static"};
    auto const targets = architectures(plans);
    if (!plans) expect_precision_on(targets, o.precision);
    for (auto const& one : targets) {
      call.command.insert(call.command.end(), {"-gencode", "arch=compute_" + one + ",code=sm_" + one});
    }
    if (o.comm == "nccl") {
      auto const nccl = nccl_options(call.command.front());
      call.command.insert(call.command.end(), nccl.begin(), nccl.end());
    }
    // one word each, because nvcc takes a comma for the end of a flag
    for (auto const& flag : flags) call.command.insert(call.command.end(), {"-Xcompiler", flag});
  }
  call.command.insert(call.command.end(), {"-shared", "-I" + includes.string()});
  return call;
}

}  // namespace hull::cli
