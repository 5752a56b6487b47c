// SPDX-License-Identifier: Apache-2.0
// What each policy costs on wide networks: bytes of every rank, seconds, communication, and whether bounds are equal.
//
//   bench_sharding NET METHOD STEPS RANKS...        ranks are threads of this process:  bench_sharding 4096 crown 0 1 2
//   8 mpirun -n 2 bench_sharding NET METHOD STEPS     ranks are processes
//
// NET: 4096 or 8192, the width of 784-4xN-10 with weights normal with variance 2 / fan-in; or 1024, for a quick look.
// METHOD: ibp, crown or alpha. HULL_OVERLAP=0: parameters are not collected ahead of use. One line of a table for each
// policy; bounds are compared with those of the first line.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include <hull/backend/cpu/divided_machine.hpp>
#include <hull/net/network.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/shard/loopback.hpp>
#include <hull/shard/metered.hpp>
#include <hull/shard/on.hpp>
#ifdef HULL_MPI
#include <hull/shard/mpi.hpp>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

using namespace hull;

namespace {

template <std::size_t W>
struct wide final : decltype(Input<784> >> Linear<"a", W> >> Relu >> Linear<"b", W> >> Relu >> Linear<"c", W> >> Relu >>
                             Linear<"d", W> >> Relu >> Linear<"e", 10>) {};

/// Weights are made when they are asked for, tensor by tensor; biases are zero.
template <std::size_t W>
struct source final {
  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    for (auto const& slot : parameter_slots<wide<W>>) {
      if (key != std::string(slot.layer) + "." + std::string(slot.name)) continue;
      values.assign(slot.count, 0.0f);
      if (slot.name == "weight") {
        std::size_t const fan_in = slot.layer == "a" ? 784 : W;
        std::mt19937 random(static_cast<unsigned>(slot.layer[0]));
        std::normal_distribution<float> normal(0, std::sqrt(2.0f / static_cast<float>(fan_in)));
        for (float& v : values) v = normal(random);
      }
      return {values};
    }
    return {};
  }
  mutable std::vector<float> values;
};

struct setting final {
  hidden_bounds method;
  std::size_t steps;
  double radius;
};

struct line final {
  std::size_t at_rest = 0, buffers = 0, planned = 0, peak = 0;
  double seconds = 0;
  communication_cost front, back;
  gather_cost blocks;
  std::vector<double> bounds;
  [[nodiscard]] std::size_t total() const { return at_rest + buffers + peak; }
};

template <class Here, std::size_t W, std::size_t P, class Base>
line measure(setting const& how, Base& base) {
  using metered = Metered<Base>;
  using here = on<cpu::backend, typename Here::sharding, metered>;
  using net = typename here::template network<wide<W>, P>;
  metered ranks(base);
  line found;
  auto const weights = here::template load<net>(source<W>{}, ranks);
  typename here::template machine<net, Outward> machine(here::template join<net>(weights, ranks));
  propagation<net, decltype(machine)> all(machine);
  std::mt19937 random(7);
  std::vector<input_range> box(784);
  for (auto& range : box) {
    double const middle = std::uniform_real_distribution<double>(0, 1)(random);
    range = {middle - how.radius, middle + how.radius};
  }
  auto const* const view = &box;
  std::vector<linear_constraint> forms;
  for (std::size_t i = 1; i < 10; ++i) forms.push_back({{{0, 1.0}, {i, -1.0}}, {}, 0, false});
  std::vector<row_form> rows;
  for (auto const& form : forms) rows.push_back({0, &form});
  auto const start = std::chrono::steady_clock::now();
  all.run({&view, 1}, how.method, {.steps = how.steps});
  found.bounds = how.method == hidden_bounds::interval      ? all.interval_bounds(rows)
                 : how.method == hidden_bounds::alpha_crown ? all.climbed_bounds(rows, {.steps = how.steps})
                                                            : all.lower_bounds(rows);
  found.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  found.front = ranks.cost();
  found.back = ranks.background_cost();
  if constexpr (requires { weights.cost(); }) {
    auto const bytes = sharded_bytes<net>(base.size());
    found.at_rest = bytes.at_rest();
    found.buffers = bytes.buffers;
    found.blocks = weights.cost();
  } else {
    found.at_rest = parameters<net>::size * sizeof(float);
  }
  found.planned = all.plan(1, how.method);
  found.peak = machine.memory().peak();
  return found;
}

void print(std::string const& policy, std::size_t ranks, line const& now, line const& first) {
  auto const mib = [](std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  double worst = 0;
  for (std::size_t i = 0; i < now.bounds.size(); ++i) {
    worst = std::max(worst, std::fabs(now.bounds[i] - first.bounds[i]) / std::max(1e-3, std::fabs(first.bounds[i])));
  }
  bool const equal = std::memcmp(now.bounds.data(), first.bounds.data(), now.bounds.size() * sizeof(double)) == 0;
  double const idle = now.front.seconds + now.blocks.waiting;
  std::printf("| %s | %zu | %.1f | %.1f %% | %.1f | %.1f | %s | %.1f | %.1f %% | %.2f | %.0f %% | %.0f | %s |\n",
              policy.c_str(), ranks, mib(now.at_rest),
              100.0 * static_cast<double>(now.at_rest) / static_cast<double>(first.at_rest), mib(now.buffers),
              mib(now.peak), now.planned == now.peak ? "yes" : "NO", mib(now.total()),
              100.0 * static_cast<double>(now.total()) / static_cast<double>(first.total()), now.seconds,
              100 * idle / now.seconds, mib(now.front.bytes + now.back.bytes),
              equal ? "to the bit" : std::to_string(worst).c_str());
  std::fflush(stdout);
}

void threads([[maybe_unused]] std::size_t ranks) {
#ifdef _OPENMP
  omp_set_num_threads(std::max(1, omp_get_num_procs() / static_cast<int>(ranks)));
#endif
}

template <class Here, std::size_t W, std::size_t P>
void loopback(setting const& how, line const& first) {
  line of_first_rank;
  Loopback::run(P, [&](Loopback& ranks) {
    threads(P);
    auto mine = measure<Here, W, P>(how, ranks);
    if (ranks.rank() == 0) of_first_rank = std::move(mine);
  });
  print(std::string(Here::sharding::name), P, of_first_rank, first);
}

template <std::size_t W, std::size_t P>
void policies(setting const& how, line const& first) {
  loopback<on<cpu::backend, Replicated>, W, P>(how, first);
  loopback<on<cpu::backend, FullySharded>, W, P>(how, first);
  loopback<on<cpu::backend, TensorParallel>, W, P>(how, first);
}

template <std::size_t W>
int run(setting const& how, std::vector<std::size_t> const& counts) {
  std::puts(
      "| policy | ranks | parameters at rest, MiB | of one rank | buffers | arena | as planned | in all | of one "
      "rank | seconds | idle in collectives | received, MiB | bounds "
      "|\n|---|---|---|---|---|---|---|---|---|---|---|---|---|");
  Solo alone;
  threads(1);
  auto const first = measure<on<cpu::backend>, W, 1>(how, alone);
  print("one rank", 1, first, first);
  for (std::size_t const count : counts) {
    if (count == 2) policies<W, 2>(how, first);
    if (count == 4) policies<W, 4>(how, first);
    if (count == 8) policies<W, 8>(how, first);
  }
  return 0;
}

#ifdef HULL_MPI
template <std::size_t W>
int run(setting const& how, Mpi& ranks) {
  threads(1);
  Solo alone;
  line first;
  if (ranks.rank() == 0) {
    std::puts("(processes)");
    first = measure<on<cpu::backend>, W, 1>(how, alone);
    print("one rank", 1, first, first);
  }
  static_cast<void>(ranks.any(0));
  auto const tell = [&](char const* policy, line const& mine) {
    if (ranks.rank() == 0) print(policy, ranks.size(), mine, first);
  };
  tell("replicated", measure<on<cpu::backend, Replicated>, W, 1>(how, ranks));
  tell("fully-sharded", measure<on<cpu::backend, FullySharded>, W, 1>(how, ranks));
  if (ranks.size() == 2) tell("tensor-parallel", measure<on<cpu::backend, TensorParallel>, W, 2>(how, ranks));
  return 0;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: bench_sharding 1024|4096|8192 ibp|crown|alpha STEPS [RANKS...]\n", stderr);
    return 2;
  }
  std::string const net = argv[1], method = argv[2];
  setting const how{method == "ibp"     ? hidden_bounds::interval
                    : method == "alpha" ? hidden_bounds::alpha_crown
                                        : hidden_bounds::crown,
                    std::strtoul(argv[3], nullptr, 10), net == "8192" ? 0.0005 : 0.001};
  auto const go = [&](auto& where) {
    if (net == "8192") return run<8192>(how, where);
    return net == "4096" ? run<4096>(how, where) : run<1024>(how, where);
  };
#ifdef HULL_MPI
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) {
    Mpi ranks;
    return go(ranks);
  }
#endif
  std::vector<std::size_t> counts;
  for (int i = 4; i < argc; ++i) counts.push_back(std::strtoul(argv[i], nullptr, 10));
  return go(counts);
}
