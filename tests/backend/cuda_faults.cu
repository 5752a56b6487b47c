// SPDX-License-Identifier: Apache-2.0
// What goes wrong on a GPU is a hull::error of one line: too little memory, after which the machine still works;
// kernels that fail; kernels that were not compiled for the device.
#include <array>
#include <cstdlib>
#include <doctest/doctest.h>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <hull/backend/cuda/machine.cuh>
#include <hull/propagate/propagation.hpp>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct net final : decltype(Input<10> >> Linear<"a", 60> >> Relu >> Linear<"b", 70> >> Relu >> Linear<"c", 3>) {};
using machine = hull::cuda::machine<net, Outward>;

/// The message of the fault of a device that work() throws; it is one line.
template <class Work>
std::string fault_of(Work&& work) {
  try {
    work();
  } catch (error const& e) {
    std::string const text = e.what();
    CAPTURE(text);
    CHECK(e.kind() == fault::device);
    CHECK(text.starts_with("CUDA: "));
    CHECK(text.find('\n') == std::string::npos);
    return text;
  }
  FAIL_CHECK("nothing was thrown");
  return {};
}

bool has(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// Bounds of `count` copies of a box under CROWN.
std::vector<double> bounds_of(machine& on, box_type const& box, std::size_t count, std::size_t row_bytes) {
  propagation<net, machine> all(on, row_bytes);
  std::vector<box_type const*> const boxes(count, &box);
  all.run(boxes, hidden_bounds::crown);
  linear_constraint const form{{{0, 1.0}, {2, -1.0}}, {}, 0.5, false};
  std::vector<row_form> rows;
  for (std::size_t b = 0; b < count; ++b) rows.push_back({static_cast<index_t>(b), &form});
  return all.lower_bounds(rows);
}

__global__ void trap_kernel() { __trap(); }
__global__ void stray_kernel(float* where) { *where = 1; }

// Cases that ruin the process they run in.
constexpr char const* traps = "apart: a kernel that traps";
constexpr char const* strays = "apart: a kernel that writes where nothing is";
constexpr char const* traps_at_launch = "apart: a kernel that traps under its name";

/// Whether a test case of this program, which is skipped otherwise, passes in a process of its own: a kernel's fault
/// ends the use of the device in the process where it happens.
bool passes_apart(std::string const& name) {
  std::string program = "/proc/self/exe", which = "--test-case=" + name, all = "--no-skip", quiet = "--minimal";
  std::array<char*, 5> arguments{program.data(), which.data(), all.data(), quiet.data(), nullptr};
  pid_t child = 0;
  REQUIRE(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments.data(), environ) == 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("memory that the device has not: an error, and then the same machine works") {
  parameters<net> const weights(random_parameters<net>(1));
  random_engine random(2);
  auto const box = random_box(random, 10, 0.1);
  machine one(weights);
  auto const single = bounds_of(one, box, 1, 0), expected = bounds_of(one, box, 64, std::size_t{1} << 20);

  std::size_t free = 0, total = 0, count = 1;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  std::size_t const endless = std::size_t{1} << 50;
  propagation<net, machine> const planned(one, endless);
  while (planned.plan(count) <= total) count *= 2;
  auto const text = fault_of([&] { bounds_of(one, box, count, endless); });
  CAPTURE(text);
  CHECK(has(text, std::to_string(planned.plan(count) >> 20) + " MiB of device memory"));
  CHECK(cudaPeekAtLastError() == cudaSuccess);

  // in less than it had before, as much, and more; and so does another machine
  CHECK(bounds_of(one, box, 1, 0) == single);
  CHECK(bounds_of(one, box, 64, std::size_t{1} << 20) == expected);
  CHECK(bounds_of(one, box, 64, std::size_t{1} << 28) == expected);
  machine another(weights);
  CHECK(bounds_of(another, box, 64, 0) == expected);
}

TEST_CASE("a call that fails says what it was for, and the next launch does not hear of it") {
  void* block = nullptr;
  auto const pinned = fault_of([&] { hull::cuda::check(cudaMallocHost(&block, std::size_t{1} << 60), "page-locked"); });
  CHECK(has(pinned, "page-locked: "));
  hull::cuda::check_launch("the next kernel");
  auto const launch = fault_of([] {
    stray_kernel<<<1, 4096>>>(nullptr);  // no block has so many threads
    hull::cuda::check_launch("stray");
  });
  CHECK(has(launch, "stray: "));
  hull::cuda::check_launch("the next kernel");
}

TEST_CASE("kernels that were not compiled for the device: what to do") {
  for (auto const code : {cudaErrorNoKernelImageForDevice, cudaErrorInvalidDeviceFunction}) {
    auto const text = fault_of([&] { hull::cuda::check(code, "relax"); });
    CAPTURE(text);
    CHECK(has(text, "relax: "));
    CHECK(has(text, "not compiled for compute capability "));
    CHECK(has(text, "HULL_CUDA_ARCH"));
  }
}

TEST_CASE("kernels that fail, each in a process of its own") {
  CHECK(passes_apart(traps));
  CHECK(passes_apart(strays));
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
  CHECK(passes_apart(traps_at_launch));
  unsetenv("CUDA_LAUNCH_BLOCKING");
}

TEST_CASE(traps* doctest::skip()) {
  hull::cuda::device const at(1);
  trap_kernel<<<1, 1, 0, at.stream()>>>();
  auto const text = fault_of([&] { at.finish(); });
  CAPTURE(text);
  CHECK(has(text, "a kernel: "));
  index_t count = 0;
  fault_of([&] { at.read(&count, at.counter(0), 1); });  // nothing works after it
  fault_of([&] { at.clear(at.counter(0), 1); });
  fault_of([] { hull::cuda::device const again(1); });
}

TEST_CASE(strays* doctest::skip()) {
  parameters<net> const weights(random_parameters<net>(1));
  random_engine random(2);
  auto const box = random_box(random, 10, 0.1);
  machine one(weights);
  bounds_of(one, box, 1, 0);
  stray_kernel<<<1, 1>>>(reinterpret_cast<float*>(std::size_t{64}));
  cudaDeviceSynchronize();  // its stream is not the machine's
  fault_of([&] { bounds_of(one, box, 1, 0); });
  fault_of([&] { bounds_of(one, box, 64, std::size_t{1} << 28); });
  fault_of([&] { machine const another(weights); });
}

TEST_CASE(traps_at_launch* doctest::skip()) {
  hull::cuda::device const at(1);
  auto const text = fault_of([&] {
    trap_kernel<<<1, 1, 0, at.stream()>>>();
    hull::cuda::check_launch("trap");
  });
  CHECK(has(text, "CUDA: trap: "));
}
