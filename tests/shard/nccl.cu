// SPDX-License-Identifier: Apache-2.0
// Ranks with a GPU each. Without arguments the program starts itself again, once for each rank: on one GPU, and on all
// that there are. Not a doctest program: every rank says what it has to say itself. Ends with 77 where there is no GPU.
//   nccl collectives    what each rank gets, from host and device memory, on two threads at once
//   nccl fail           the last rank fails, the others' collectives throw its message
//   nccl killed         the last rank is killed, the others' collectives throw its number
#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <cuda_runtime.h>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <hull/shard/nccl.cuh>
#include <hull/shard/rendezvous.hpp>

using namespace hull;

static_assert(Communicator<Nccl>);
static_assert(DeviceCommunicator<Nccl, cudaStream_t>);
static_assert(!DeviceCommunicator<Rendezvous, cudaStream_t>);

namespace {

std::atomic<int> failures = 0;

void check(bool holds, std::string const& what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "nccl: %s\n", what.c_str());
}

/// In any other order than that of ranks these have other sums.
template <class T>
T term(std::size_t rank, std::size_t i) {
  return static_cast<T>(rank % 2 == 0 ? 1 : -1) *
         std::ldexp(T{1} + static_cast<T>(i % 97) / 97, static_cast<int>(9 * rank + i % 5));
}

template <class T>
bool is_sum(std::vector<T> const& values, std::size_t ranks) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    T sum = 0;
    for (std::size_t r = 0; r < ranks; ++r) sum += term<T>(r, i);
    if (std::memcmp(&sum, &values[i], sizeof sum) != 0) return false;
  }
  return true;
}

template <class T>
std::vector<T> terms(std::size_t rank, std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = term<T>(rank, i);
  return values;
}

bool is_gathered(std::vector<int> const& all, std::size_t count) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != static_cast<int>(1000 * (i / count) + i % count)) return false;
  }
  return true;
}

std::vector<int> part_of(std::size_t rank, std::size_t count) {
  std::vector<int> part(count);
  for (std::size_t i = 0; i < count; ++i) part[i] = static_cast<int>(1000 * rank + i);
  return part;
}

std::byte const* bytes(void const* p) { return static_cast<std::byte const*>(p); }
std::byte* bytes(void* p) { return static_cast<std::byte*>(p); }

/// Memory of the device and a stream, taken before collectives begin and given back after them: both wait for all work
/// of the device, that of another thread too, in which other ranks may be missing.
class device_room final {
 public:
  explicit device_room(std::size_t bytes) {
    cudaMalloc(&memory_, bytes);
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  }
  device_room(device_room const&) = delete;
  device_room& operator=(device_room const&) = delete;
  ~device_room() {
    cudaStreamDestroy(stream_);
    cudaFree(memory_);
  }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(memory_);
  }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }

 private:
  void* memory_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

template <class T>
void check_sums(Nccl& ranks, std::size_t count, device_room const& room) {
  cudaStream_t const stream = room.stream();
  auto values = terms<T>(ranks.rank(), count);
  ranks.sum(values.data(), count);
  check(is_sum(values, ranks.size()), "sum of " + std::to_string(count));
  values = terms<T>(ranks.rank(), count);
  T* const on_device = room.as<T>();
  cudaMemcpyAsync(on_device, values.data(), count * sizeof(T), cudaMemcpyHostToDevice, stream);
  ranks.sum_device(on_device, count, stream);
  cudaMemcpyAsync(values.data(), on_device, count * sizeof(T), cudaMemcpyDeviceToHost, stream);
  ranks.finish(stream);
  check(is_sum(values, ranks.size()), "sum on the device of " + std::to_string(count));
}

constexpr std::size_t most_numbers = 2'500'000;  // more than the buffers hold

void check_collectives(Nccl& ranks, device_room const& room) {
  cudaSetDevice(ranks.device());
  cudaStream_t const stream = room.stream();
  for (std::size_t const count : {std::size_t{1}, std::size_t{7}, std::size_t{100'000}, most_numbers}) {
    auto const part = part_of(ranks.rank(), count);
    std::vector<int> all(count * ranks.size());
    ranks.all_gather(bytes(part.data()), bytes(all.data()), count * sizeof(int));
    check(is_gathered(all, count), "all_gather of " + std::to_string(count));

    std::fill(all.begin(), all.end(), -1);
    int* const on_device = room.as<int>();
    int* const own = on_device + ranks.rank() * count;
    cudaMemcpyAsync(own, part.data(), count * sizeof(int), cudaMemcpyHostToDevice, stream);
    ranks.all_gather_device(bytes(own), bytes(on_device), count * sizeof(int), stream);
    cudaMemcpyAsync(all.data(), on_device, all.size() * sizeof(int), cudaMemcpyDeviceToHost, stream);
    ranks.finish(stream);
    check(is_gathered(all, count), "all_gather on the device of " + std::to_string(count));

    check_sums<float>(ranks, count, room);
    check_sums<double>(ranks, count, room);
  }
  check(ranks.any(1U << ranks.rank()) == (1U << ranks.size()) - 1, "any");
}

/// What ends this rank's collectives.
std::string end_of(Nccl& ranks) {
  try {
    for (;;) static_cast<void>(ranks.any(0));
  } catch (error const& e) {
    return e.what();
  }
}

int one_rank(std::string const& what) {
  alarm(120);  // nothing hangs
  try {
    Rendezvous others;
    Nccl ranks(others);
    std::string const last = "rank " + std::to_string(ranks.size() - 1);
    bool const mine = ranks.rank() + 1 == ranks.size();
    if (what == "collectives") {
      std::size_t const bytes = most_numbers * std::max(ranks.size() * sizeof(int), sizeof(double));
      device_room const front_room(bytes), back_room(bytes);
      float one = 1, other = 1;  // the first sums connect: not at the same time
      ranks.sum(&one, 1);
      ranks.background().sum(&other, 1);
      check(one == other && one == static_cast<float>(ranks.size()), "first sums");
      std::thread behind([&] {
        try {
          check_collectives(ranks.background(), back_room);
        } catch (std::exception const& e) {
          check(false, e.what());
        }
      });
      check_collectives(ranks, front_room);
      behind.join();
    } else {
      if (mine) static_cast<void>(ranks.any(1));  // the others may still be in it when this rank has gone
      if (mine && what == "killed") raise(SIGKILL);
      if (mine) {
        ranks.fail("no memory left");
        return 0;
      }
      std::string const why = end_of(ranks),
                        expected = last + (what == "killed" ? " is gone" : " failed: no memory left");
      check(why.starts_with(expected), "found '" + why + "', expected '" + expected + "'");
    }
  } catch (std::exception const& e) {
    check(false, e.what());
  }
  return failures == 0 ? 0 : 1;
}

std::uint16_t free_port() {
  tcp::endpoint const any = tcp::resolve("127.0.0.1", tcp::in_seconds(1)).at(0);
  return tcp::port_of(tcp::listen_at(any));
}

/// How many ranks ended otherwise than they should.
int start(std::string const& what, int size) {
  setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(free_port()).c_str(), 1);
  std::vector<pid_t> ranks(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) {
    setenv("RANK", std::to_string(r).c_str(), 1);
    setenv("LOCAL_RANK", std::to_string(r).c_str(), 1);
    std::string program = "/proc/self/exe", name = what;
    char* const arguments[] = {program.data(), name.data(), nullptr};
    if (posix_spawn(&ranks[static_cast<std::size_t>(r)], program.c_str(), nullptr, nullptr, arguments, environ) != 0)
      return 1;
  }
  int bad = 0;
  for (pid_t const one : ranks) {
    int status = 0;
    waitpid(one, &status, 0);
    bool const victim = what == "killed" && one == ranks.back();
    bad += (victim ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0) ? 0 : 1;
  }
  std::printf("%s, %d ranks: %s\n", what.c_str(), size, bad == 0 ? "ok" : "FAILED");
  std::fflush(stdout);
  return bad;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return one_rank(argv[1]);
  int count = 0;
  cudaError_t const found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess || count == 0) {
    std::printf("skipped: %s\n", cudaGetErrorString(found));
    return 77;
  }
  int bad = start("collectives", 1);
  if (count > 1) bad += start("collectives", count) + start("fail", count) + start("killed", count);
  if (count == 1) std::printf("one GPU: several ranks were not tried\n");
  return bad == 0 ? 0 : 1;
}
