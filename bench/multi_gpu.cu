// SPDX-License-Identifier: Apache-2.0
// What a policy costs on ranks with a GPU each: time, bytes, memory, and whether bounds are those of one rank.
// bench/multi_gpu.sh builds and calls it; one program for each network, policy and precision.
//
//   nvcc FLAGS -I include -DHULL_BENCH_WORK=random_4x4096 -DHULL_BENCH_POLICY=FullySharded bench/multi_gpu.cu -lnccl
//   a.out --ranks 4 --method crown,alpha-crown        starts itself four times
//   torchrun --nproc-per-node 4 --no-python a.out     the same from outside
//
// nvcc's FLAGS: those of bench/cuda.cu, and -Xcompiler -fopenmp: weights are made by all cores.
//
//   HULL_BENCH_WORK       network of namespace `works`
//   HULL_BENCH_POLICY     Replicated (default), FullySharded or TensorParallel
//   HULL_BENCH_RANKS      of TensorParallel: how many. Of the others 0, any number, or 1: alone, without NCCL
//   HULL_BENCH_COMM       Nccl (default) or Loopback: ranks are threads and share the GPUs that there are, which tells
//                         memory and bits of more ranks than GPUs, and no time
//   HULL_BENCH_PRECISION  Fp32 (default), Tf32x3 or Fp16x3
//   HULL_BENCH_ROUNDING   Outward (default) or Nearest
//
// Rank 0 prints one line of JSON for each method. Milliseconds are wall clock of run() and the bounds of all margins,
// from a barrier to the end of the slowest rank. Costs of collectives are of one run, on host memory (during which the
// rank waits) and on device memory, of which `exposed` is what computations waited for. All numbers are the largest of
// any rank; bytes_context has all that the driver takes before anything else, bytes_machine what was taken since the
// machine was made: parameters, arena, kernels.
//
//   --method crown|alpha-crown   a list is taken one by one
//   --steps N                    20, of alpha-crown
//   --repeat N, --warmup N       5, 2; fewer once --seconds S (20) have passed, and no run may take longer
//   --bandwidth yes              instead of bounds: how fast collectives are
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <exception>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hull/backend/cuda/backend.cuh>
#include <hull/net/network.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/shard/loopback.hpp>
#include <hull/shard/metered.hpp>
#include <hull/shard/nccl.cuh>
#include <hull/shard/on.hpp>
#include <hull/shard/rendezvous.hpp>

#include "multi_gpu_bandwidth.cuh"
#include "multi_gpu_ranks.cuh"
#include "multi_gpu_works.hpp"

#ifndef HULL_BENCH_WORK
#error "name a network: -DHULL_BENCH_WORK=random_4x4096, or another of namespace works"
#endif
#ifndef HULL_BENCH_POLICY
#define HULL_BENCH_POLICY Replicated
#endif
#ifndef HULL_BENCH_RANKS
#define HULL_BENCH_RANKS 0
#endif
#ifndef HULL_BENCH_COMM
#define HULL_BENCH_COMM Nccl
#endif
#ifndef HULL_BENCH_PRECISION
#define HULL_BENCH_PRECISION Fp32
#endif
#ifndef HULL_BENCH_ROUNDING
#define HULL_BENCH_ROUNDING Outward
#endif
#define HULL_BENCH_TEXT(x) #x
#define HULL_BENCH_NAME(x) HULL_BENCH_TEXT(x)

using namespace hull;
using namespace hull::bench;

namespace {

using net = works::HULL_BENCH_WORK;
using policy = hull::HULL_BENCH_POLICY;
using precision = hull::cuda::HULL_BENCH_PRECISION;
using rounding = hull::HULL_BENCH_ROUNDING;
constexpr std::size_t fixed_ranks = HULL_BENCH_RANKS;
constexpr bool alone = fixed_ranks == 1, share_gpus = std::is_same_v<hull::HULL_BENCH_COMM, Loopback>;

using ranks_type = std::conditional_t<alone, Solo, std::conditional_t<share_gpus, Metered<Loopback>, noted_nccl>>;
using here = on<hull::cuda::backend_with<precision>, policy, ranks_type>;
using part = typename here::template network<net, std::max<std::size_t>(1, fixed_ranks)>;
using machine_type = typename here::template machine<part, rounding>;

struct options final {
  std::vector<std::string> methods;
  std::size_t ranks = 0, steps = 20, repeat = 5, warmup = 2;
  double seconds = 20;
  bool bandwidth = false;
};

/// Of one rank; the report has the largest of all ranks. Costs are of one run.
enum field : std::size_t {
  host_calls,
  host_bytes,
  host_seconds,
  device_calls,
  device_bytes,
  device_seconds,
  device_exposed,
  bytes_at_rest,
  bytes_buffers,
  bytes_planned,
  bytes_arena,
  bytes_context,
  bytes_nccl,
  bytes_machine,
  seconds_start,
  seconds_load,
  seconds_set_up,
  fields
};
constexpr std::array<char const*, fields> field_names{
    "host_calls",     "host_bytes",    "host_seconds",  "device_calls",  "device_bytes",  "device_seconds",
    "device_exposed", "bytes_at_rest", "bytes_buffers", "bytes_planned", "bytes_arena",   "bytes_context",
    "bytes_nccl",     "bytes_machine", "seconds_start", "seconds_load",  "seconds_set_up"};
using account = std::array<double, fields>;

/// Bounds of hidden neurons, put into few numbers.
struct hidden final {
  std::uint64_t hash = 0;  // of all their bits
  std::vector<std::size_t> unstable;
  std::vector<double> width;  // the mean of a stage

  hidden(machine_type& machine, network_state<part> const& state) {
    for_each_stage<1, stage_count<part>>([&]<std::size_t K> {
      std::vector<float> lower, upper;
      machine.template head_bounds<stage<part, K>>(state, lower, upper);
      std::size_t kinks = 0;
      double sum = 0;
      for (std::size_t i = 0; i < lower.size(); ++i) {
        for (float const end : {lower[i], upper[i]}) hash = works::scrambled(hash ^ std::bit_cast<std::uint32_t>(end));
        kinks += lower[i] < 0 && upper[i] > 0 ? 1 : 0;
        sum += static_cast<double>(upper[i]) - static_cast<double>(lower[i]);
      }
      if constexpr (stage<part, K>::info.tail_count > 0) {
        unstable.push_back(kinks);
        width.push_back(sum / static_cast<double>(lower.size()));
      }
    });
  }
};

/// What was measured: the beginning of a line.
std::string subject(std::size_t ranks, std::string const& method, std::size_t steps) {
  return std::string("{\"network\": \"") + HULL_BENCH_NAME(HULL_BENCH_WORK) + "\", \"policy\": \"" +
         std::string(policy::name) + "\", \"ranks\": " + std::to_string(ranks) + ", \"communicator\": \"" +
         (alone        ? "none"
          : share_gpus ? "loopback"
                       : "nccl") +
         "\", \"method\": \"" + method + "\", \"steps\": " + std::to_string(method == "crown" ? 0 : steps) +
         ", \"precision\": \"" + std::string(precision::name) + "\", \"rounding\": \"" +
         (rounding::outward ? "outward" : "nearest") + "\"";
}

// What only some machines and communicators have.

template <class C>
communication_cost noted_by(C const& ranks) {
  if constexpr (requires { ranks.cost(); }) return ranks.cost();
  return {};
}
template <class M>
hull::cuda::device_cost noted_by_machine(M const& machine) {
  if constexpr (requires { machine.communication(); }) return machine.communication();
  return {};
}
template <class M>
parameter_bytes held_by(std::size_t ranks) {
  if constexpr (requires { M::held(ranks); }) return M::held(ranks);
  return {.shards = parameters<part>::size * sizeof(float)};
}

struct measured final {
  std::vector<double> seconds;  // [run] of the slowest rank
  std::vector<double> margins;
  bool repeatable = true;
  communication_cost on_host;  // of all those runs
};

/// Runs until there are enough. All ranks together, each after a barrier.
template <class Meeting, class Ranks, class Between>
measured repeat(options const& given, Meeting& meeting, Ranks& ranks, propagation<part, machine_type>& all,
                hidden_bounds method, Between&& after_warm_up) {
  std::vector<linear_constraint> forms;
  std::vector<row_form> rows;
  for (std::size_t i = 1; i < graph<net>::output_size; ++i) forms.push_back({{{0, 1.0}, {i, -1.0}}, {}, 0, false});
  for (auto const& form : forms) rows.push_back({0, &form});
  auto const box = works::made_up_box<net>();
  auto const* const view = &box;
  measured found;
  auto const begin = clock_type::now();
  for (std::size_t run = 0; run < given.warmup + given.repeat; ++run) {
    bool const warm = run >= given.warmup;
    bool const late = run > 0 && meeting.any(since(begin) > given.seconds ? 1U : 0U) != 0;
    if (late && warm && !found.seconds.empty()) break;
    if (late && !warm) continue;
    if (warm && found.seconds.empty()) after_warm_up();
    all.stop_at(deadline(given.seconds));
    static_cast<void>(ranks.any(0));
    communication_cost const before = noted_by(ranks);
    auto const start = clock_type::now();
    all.run({&view, 1}, method, {.steps = given.steps});
    auto margins =
        method == hidden_bounds::crown ? all.lower_bounds(rows) : all.climbed_bounds(rows, {.steps = given.steps});
    auto const everyone = of_all(meeting, since(start));
    if (warm) {
      communication_cost const after = noted_by(ranks);
      found.on_host.calls += after.calls - before.calls;
      found.on_host.bytes += after.bytes - before.bytes;
      found.on_host.seconds += after.seconds - before.seconds;
      found.seconds.push_back(*std::max_element(everyone.begin(), everyone.end()));
    }
    found.repeatable = found.repeatable && (found.margins.empty() || found.margins == margins);
    found.margins = std::move(margins);
  }
  return found;
}

/// One method from set-up to a line of JSON, on a machine of its own.
template <class Meeting, class Ranks>
std::string measure(options const& given, Meeting& meeting, Ranks& ranks,
                    typename here::template weights<part> const& weights, std::string const& name, account facts) {
  auto const method = name == "crown" ? hidden_bounds::crown : hidden_bounds::alpha_crown;
  std::size_t const before = driver_bytes();
  auto const start = clock_type::now();
  machine_type machine(here::template join<part>(weights, ranks));
  check(cudaDeviceSynchronize(), "set-up");
  facts[seconds_set_up] = since(start);
  propagation<part, machine_type> all(machine);

  hull::cuda::device_cost warm;
  auto found = repeat(given, meeting, ranks, all, method, [&] { warm = noted_by_machine(machine); });
  hull::cuda::device_cost const end = noted_by_machine(machine);

  auto const runs = static_cast<double>(found.seconds.size());
  facts[host_calls] = static_cast<double>(found.on_host.calls) / runs;
  facts[host_bytes] = static_cast<double>(found.on_host.bytes) / runs;
  facts[host_seconds] = found.on_host.seconds / runs;
  facts[device_calls] = static_cast<double>(end.calls - warm.calls) / runs;
  facts[device_bytes] = static_cast<double>(end.bytes - warm.bytes) / runs;
  facts[device_seconds] = (end.seconds - warm.seconds) / runs;
  facts[device_exposed] = (end.exposed - warm.exposed) / runs;
  auto const held = held_by<machine_type>(ranks.size());
  facts[bytes_at_rest] = static_cast<double>(held.at_rest());
  facts[bytes_buffers] = static_cast<double>(held.buffers);
  facts[bytes_planned] = static_cast<double>(all.plan(1, method));
  facts[bytes_arena] = static_cast<double>(machine.memory().peak());
  // of ranks that share a GPU the driver tells only what all have
  facts[bytes_machine] = share_gpus ? 0 : static_cast<double>(std::max(driver_bytes(), before) - before);
  hidden const inside(machine, all.state());

  auto const hashes = of_all(meeting, inside.hash);
  bool const agree = std::all_of(hashes.begin(), hashes.end(), [&](auto one) { return one == inside.hash; });
  account largest{};
  for (auto const& one : of_all(meeting, facts)) {
    for (std::size_t f = 0; f < fields; ++f) largest[f] = std::max(largest[f], one[f]);
  }

  std::sort(found.seconds.begin(), found.seconds.end());
  std::size_t const half = found.seconds.size() / 2;
  double const median =
      found.seconds.size() % 2 == 1 ? found.seconds[half] : (found.seconds[half - 1] + found.seconds[half]) / 2;
  cudaDeviceProp device{};
  int number = 0;
  check(cudaGetDevice(&number), "device");
  check(cudaGetDeviceProperties(&device, number), "device");
  std::array<char, 24> hash{};
  std::snprintf(hash.data(), hash.size(), "%016llx", static_cast<unsigned long long>(inside.hash));

  std::string line =
      subject(ranks.size(), name, given.steps) + ", \"gpu\": " + quoted(device.name) +
      ", \"median\": " + text("%.6g", 1e3 * median) + ", \"min\": " + text("%.6g", 1e3 * found.seconds.front()) +
      ", \"max\": " + text("%.6g", 1e3 * found.seconds.back()) + ", \"runs\": " + std::to_string(found.seconds.size());
  for (std::size_t f = 0; f < fields; ++f) {
    line += std::string(", \"") + field_names[f] + "\": " + text("%.10g", largest[f]);
  }
  return line + ", \"unstable\": " + list("%.0f", inside.unstable) + ", \"width\": " + list("%.6g", inside.width) +
         ", \"hash\": \"" + hash.data() + "\", \"ranks_agree\": " + (agree ? "true" : "false") +
         ", \"repeatable\": " + (found.repeatable ? "true" : "false") +
         ", \"margins\": " + list("%.17g", found.margins) + "}";
}

template <class Meeting, class Ranks>
void measure_all(options const& given, Meeting& meeting, Ranks& ranks, account facts) {
  auto const start = clock_type::now();
  auto const weights = here::template load<part>(works::source<net>{}, ranks);
  facts[seconds_load] = since(start);
  for (auto const& method : given.methods) {
    std::string line;
    try {
      line = measure(given, meeting, ranks, weights, method, facts);
    } catch (deadline_passed const&) {  // on all ranks
      line = subject(ranks.size(), method, given.steps) + ", \"error\": \"a run takes longer than " +
             text("%g", given.seconds) + " s\"}";
    }
    if (meeting.rank() == 0) say(line);
  }
}

/// Makes a device current, and returns what the driver takes for that.
double open_device(std::size_t number) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "devices");
  check(cudaSetDevice(static_cast<int>(number % static_cast<std::size_t>(std::max(1, count)))), "device");
  check(cudaFree(nullptr), "context");
  return static_cast<double>(driver_bytes());
}

void share_cores([[maybe_unused]] std::size_t ranks) {
#ifdef _OPENMP
  omp_set_num_threads(std::max(1, omp_get_num_procs() / static_cast<int>(ranks)));
#endif
}

template <class Ranks>
void as_rank(options const& given) {
  account facts{};
  if constexpr (std::is_same_v<Ranks, Solo>) {
    Ranks self;
    facts[bytes_context] = open_device(0);
    measure_all(given, self, self, facts);
  } else if constexpr (share_gpus) {
    Loopback::run(given.ranks, [&](Loopback& threads) {
      account own{};
      share_cores(threads.size());
      static_cast<void>(open_device(threads.rank()));
      Ranks ranks(threads);
      measure_all(given, threads, ranks, own);
    });
  } else {
    Rendezvous meeting;
    share_cores(meeting.size());
    facts[bytes_context] = open_device(meeting.local_rank());
    auto const start = clock_type::now();
    Nccl link(meeting);
    for (Nccl* one : {&link, &link.background()}) {  // NCCL takes its buffers when they are first needed
      std::vector<double> numbers(link.size(), 0.0);
      static_cast<void>(one->any(0));
      one->sum(numbers.data(), numbers.size());
    }
    facts[seconds_start] = since(start);
    facts[bytes_nccl] = static_cast<double>(driver_bytes()) - facts[bytes_context];
    if (given.bandwidth) return bandwidth(meeting, link);
    Ranks ranks(link);
    measure_all(given, meeting, ranks, facts);
  }
}

int usage(std::string const& what) {
  std::fprintf(stderr,
               "bench_multi_gpu: %s\nusage: bench_multi_gpu [--ranks P] [--method crown,alpha-crown] [--steps N] "
               "[--repeat N] [--warmup N] [--seconds S] [--bandwidth yes|no]\n",
               what.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> words{{"--ranks", "0"},     {"--method", "crown"}, {"--steps", "20"},
                                           {"--repeat", "5"},    {"--warmup", "2"},     {"--seconds", "20"},
                                           {"--bandwidth", "no"}};
  std::vector<char*> without_ranks{argv[0]};
  for (int i = 1; i < argc; i += 2) {
    auto const option = words.find(argv[i]);
    if (option == words.end()) return usage(std::string("unknown option ") + argv[i]);
    if (i + 1 == argc) return usage(option->first + " wants a value");
    option->second = argv[i + 1];
    if (option->first != "--ranks") without_ranks.insert(without_ranks.end(), {argv[i], argv[i + 1]});
  }
  auto const number = [&](char const* option) { return std::strtoul(words[option].c_str(), nullptr, 10); };
  options given{.methods = {},
                .ranks = std::max(1ul, number("--ranks")),
                .steps = number("--steps"),
                .repeat = std::max(1ul, number("--repeat")),
                .warmup = number("--warmup"),
                .seconds = std::strtod(words["--seconds"].c_str(), nullptr),
                .bandwidth = words["--bandwidth"] == "yes"};
  for (std::string rest = words["--method"]; !rest.empty();) {
    std::string const one = rest.substr(0, rest.find(','));
    if (one != "crown" && one != "alpha-crown") return usage("which method is '" + one + "'?");
    given.methods.push_back(one);
    rest.erase(0, one.size() + 1);
  }
  std::size_t const ranks = number("--ranks");
  if (fixed_ranks != 0 && ranks != 0 && ranks != fixed_ranks) {
    return usage("this program is for " + std::to_string(fixed_ranks) + " ranks");
  }
  auto const environment = [](char const* name, char const* otherwise) {
    char const* const value = std::getenv(name);
    return std::string(value == nullptr ? otherwise : value);
  };
  std::string const rank = environment("RANK", "0");
  try {
    if (!alone && !share_gpus && ranks > 0) return start(ranks, without_ranks);
    as_rank<ranks_type>(given);
  } catch (std::exception const& e) {
    if (rank == "0") {
      std::size_t const size = std::strtoul(environment("WORLD_SIZE", "1").c_str(), nullptr, 10);
      say(subject(size, words["--method"], given.steps) + ", \"error\": " + quoted(e.what()) + "}");
    }
    std::fprintf(stderr, "bench_multi_gpu: rank %s: %s\n", rank.c_str(), e.what());
    return 1;
  }
  return 0;
}
