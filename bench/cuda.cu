// SPDX-License-Identifier: Apache-2.0
// Times the bounds of one network on the GPU, or on the CPU where g++ compiles this file. bench/gpu_compare.py calls
// it.
//
//   nvcc FLAGS -I include -DHULL_BENCH_WORK=random_4x2048 bench/cuda.cu -o bin/bench_cuda_random_4x2048
//   bin/bench_cuda_random_4x2048 random_4x2048 --method crown
//
// nvcc's FLAGS: -std=c++20 -O3 --expt-relaxed-constexpr --extended-lambda -diag-suppress 20208,186,445
//   -gencode arch=compute_90a,code=sm_90a -cudart static
// g++'s: -x c++ -std=c++20 -O3 -march=native -fopenmp
//
// HULL_BENCH_WORK is a network of namespace `works`: one binary for each keeps compiling parallel. It prints one line
// of JSON: wall-clock milliseconds of run() with the bounds of all forms, which end when the bounds are in host memory;
// bytes of the arena and of the parameters, and by how much the driver's free memory shrank since before the machine
// was made (kernels that were loaded included).
//
//   --method ibp|crown|alpha-crown   crown
//   --rounding nearest|outward       outward
//   --precision fp32|tf32x3|fp16x3   fp32; of the products of wide dense stages; fp16x3: of convolutions, too
//   --device cuda|cpu                only what the binary was compiled for
//   --repeat N, --warmup N           10, 3; fewer once --seconds S (60) have passed
//   --row-bytes N                    budget of one chunk of rows; default: that of propagation
//   --intersect yes|no               yes: hidden bounds of CROWN are intersected with those of intervals
//   --weights FILE                   float32, little-endian: weight and bias of each layer in order, lower and upper
//                                    end of the box, number of forms, their coefficients [forms, outputs]. Without it
//                                    weights are random, forms are y_0 - y_k, and inputs move by --radius (0.001)

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <hull/net/network.hpp>
#include <hull/propagate/propagation.hpp>
#ifdef __CUDACC__
#include <hull/backend/cuda/machine.cuh>
#else
#include <hull/backend/cpu/machine.hpp>
#endif

#ifndef HULL_BENCH_WORK
#error "name a network: -DHULL_BENCH_WORK=mnist_256x2, or another of namespace works"
#endif
#define HULL_BENCH_TEXT(x) #x
#define HULL_BENCH_NAME(x) HULL_BENCH_TEXT(x)

using namespace hull;

namespace works {

// NOLINTBEGIN(readability-identifier-naming)
struct mnist_256x2 final
    : decltype(Input<784> >> Linear<"l0", 256> >> Relu >> Linear<"l1", 256> >> Relu >> Linear<"l2", 10>) {};
struct mnist_256x4 final : decltype(Input<784> >> Linear<"l0", 256> >> Relu >> Linear<"l1", 256> >> Relu >>
                                    Linear<"l2", 256> >> Relu >> Linear<"l3", 256> >> Relu >> Linear<"l4", 10>) {};
struct mnist_256x6 final : decltype(Input<784> >> Linear<"l0", 256> >> Relu >> Linear<"l1", 256> >> Relu >>
                                    Linear<"l2", 256> >> Relu >> Linear<"l3", 256> >> Relu >> Linear<"l4", 256> >>
                                    Relu >> Linear<"l5", 256> >> Relu >> Linear<"l6", 10>) {};
template <std::size_t W>
struct wide4 : decltype(Input<784> >> Linear<"l0", W> >> Relu >> Linear<"l1", W> >> Relu >> Linear<"l2", W> >> Relu >>
                        Linear<"l3", W> >> Relu >> Linear<"l4", 10>) {};
using random_4x2048 = wide4<2048>;
using random_4x4096 = wide4<4096>;
using random_4x8192 = wide4<8192>;
struct random_3x16384 final : decltype(Input<784> >> Linear<"l0", 16384> >> Relu >> Linear<"l1", 16384> >> Relu >>
                                       Linear<"l2", 16384> >> Relu >> Linear<"l3", 10>) {};
struct conv final : decltype(Input<3, 32, 32> >> Conv<"l0", 64, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                             Conv<"l1", 64, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>> >> Relu >>
                             Conv<"l2", 128, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                             Conv<"l3", 128, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>> >> Relu >> Flatten >>
                             Linear<"l4", 512> >> Relu >> Linear<"l5", 10>) {};
// NOLINTEND(readability-identifier-naming)

}  // namespace works

using net = works::HULL_BENCH_WORK;
constexpr char const* work_name = HULL_BENCH_NAME(HULL_BENCH_WORK);

#ifdef __CUDACC__
constexpr char const* device_name = "cuda";
using hull::cuda::Fp32, hull::cuda::Tf32x3, hull::cuda::Fp16x3;
template <class R, class P>
using machine_of = hull::cuda::machine<net, R, lone_member<net>, P>;
using hull::cuda::driver_bytes;
#else
constexpr char const* device_name = "cpu";
struct Fp32 {};
using Tf32x3 = Fp32;  // the CPU has no other way
using Fp16x3 = Fp32;
template <class R, class P>
using machine_of = hull::cpu::machine<net, R>;

std::size_t driver_bytes() { return 0; }
#endif

struct options final {
  std::string method, rounding, precision, weights;
  std::size_t repeat = 0, warmup = 0, row_bytes = 0;  // 0 bytes: the default of propagation
  double seconds = 0, radius = 0;
  bool intersect = true;
};

/// The numbers of a file in order; or made-up ones, with which time and memory can be looked at without one.
class numbers final {
 public:
  explicit numbers(options const& given) : radius_(static_cast<float>(given.radius)) {
    static_assert(std::endian::native == std::endian::little);
    if (given.weights.empty()) return;
    file_.reset(std::fopen(given.weights.c_str(), "rb"));
    expect(file_ != nullptr, given.weights + ": cannot be read");
  }

  /// The source of parameters; these ask in the order of the layers, which is that of the file.
  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    for (std::size_t at = 0; at < parameter_slots<net>.size(); ++at) {
      auto const& slot = parameter_slots<net>[at];
      if (key != std::string(slot.layer) + "." + std::string(slot.name)) continue;
      if (file_ != nullptr) {
        tensor_ = read(slot.count);
      } else {
        tensor_.assign(slot.count, 0.0f);
        if (slot.name == "weight") make_up(slot.count / parameter_slots<net>[at + 1].count);  // [out, in], then [out]
      }
      return {tensor_};
    }
    return {};
  }

  [[nodiscard]] std::vector<input_range> box() const {
    std::vector<input_range> region(graph<net>::input_size);
    if (file_ != nullptr) {
      auto const lower = read(region.size()), upper = read(region.size());
      for (std::size_t i = 0; i < region.size(); ++i) region[i] = {lower[i], upper[i]};
    } else {
      std::uniform_real_distribution<float> uniform(0, 1);
      for (auto& range : region) {
        float const centre = uniform(random_);
        range = {centre - radius_, centre + radius_};
      }
    }
    return region;
  }

  [[nodiscard]] std::vector<linear_constraint> forms() const {
    constexpr std::size_t outputs = graph<net>::output_size;
    std::size_t const count = file_ != nullptr ? static_cast<std::size_t>(read(1)[0]) : outputs - 1;
    std::vector<linear_constraint> all(count);
    for (std::size_t f = 0; f < count; ++f) {
      if (file_ == nullptr) {
        all[f].outputs = {{0, 1.0}, {f + 1, -1.0}};
        continue;
      }
      auto const row = read(outputs);
      for (std::size_t o = 0; o < outputs; ++o) {
        if (row[o] != 0) all[f].outputs.push_back({o, row[o]});
      }
    }
    expect(file_ == nullptr || std::fgetc(file_.get()) == EOF,
           "--weights: the file holds more than this network needs");
    return all;
  }

 private:
  struct close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  [[nodiscard]] std::vector<float> read(std::size_t count) const {
    std::vector<float> values(count);
    bool const whole = std::fread(values.data(), sizeof(float), count, file_.get()) == count;
    expect(whole, "--weights: the file ends before the numbers of this network do");
    return values;
  }

  /// Normal, with variance 2 / fan-in.
  void make_up(std::size_t fan_in) const {
    std::normal_distribution<float> normal(0, std::sqrt(2.0f / static_cast<float>(fan_in)));
    for (float& w : tensor_) w = normal(random_);
  }

  float radius_;
  std::unique_ptr<std::FILE, close> file_;
  mutable std::mt19937 random_{1};
  mutable std::vector<float> tensor_;
};

void print_bounds(std::vector<double> const& bounds) {
  std::printf("\"bounds\": [");
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    // JSON has no infinity
    std::printf(std::isfinite(bounds[i]) ? "%s%.17g" : "%snull", i == 0 ? "" : ", ", bounds[i]);
  }
  std::printf("]");
}

template <class R, class P>
void measure(options const& given) {
  using clock = std::chrono::steady_clock;
  auto const since = [](clock::time_point start) {
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  auto const method = given.method == "ibp"     ? hidden_bounds::interval
                      : given.method == "crown" ? hidden_bounds::crown
                                                : hidden_bounds::alpha_crown;
  numbers const source(given);
  parameters<net> const weights(source);
  auto const region = source.box();
  auto const forms = source.forms();
  std::vector<row_form> rows;
  for (auto const& form : forms) rows.push_back({0, &form});

  std::size_t const before = driver_bytes();
  auto const set_up = clock::now();
  machine_of<R, P> machine(weights);
  double const set_up_seconds = since(set_up);
  auto all = given.row_bytes != 0 ? std::make_unique<propagation<net, machine_of<R, P>>>(machine, given.row_bytes)
                                  : std::make_unique<propagation<net, machine_of<R, P>>>(machine);
  all->intersect_hidden(given.intersect);

  std::vector<double> seconds, bounds;
  bool repeatable = true;
  auto const begin = clock::now();
  for (std::size_t run = 0; run < given.warmup + given.repeat; ++run) {
    bool const warm = run >= given.warmup;
    // late: the warm-ups end early, and one measured run is enough
    if (since(begin) > given.seconds && !(warm && seconds.empty())) {
      if (warm) break;
      continue;
    }
    auto const* const view = &region;
    auto const start = clock::now();
    all->run({&view, 1}, method);
    auto found = method == hidden_bounds::interval ? all->interval_bounds(rows)
                 : method == hidden_bounds::crown  ? all->lower_bounds(rows)
                                                   : all->climbed_bounds(rows);
    double const passed = since(start);
    if (warm) seconds.push_back(passed);
    repeatable =
        repeatable && (bounds.empty() || std::memcmp(found.data(), bounds.data(), found.size() * sizeof(double)) == 0);
    bounds = std::move(found);
  }
  std::size_t const after = driver_bytes();

  std::sort(seconds.begin(), seconds.end());
  std::size_t const half = seconds.size() / 2;
  double const median = seconds.size() % 2 == 1 ? seconds[half] : (seconds[half - 1] + seconds[half]) / 2;
  std::printf(
      "{\"work\": \"%s\", \"method\": \"%s\", \"rounding\": \"%s\", \"precision\": \"%s\", \"device\": \"%s\", ",
      work_name, given.method.c_str(), given.rounding.c_str(), given.precision.c_str(), device_name);
  std::printf("\"median\": %.6g, \"min\": %.6g, \"max\": %.6g, \"repetitions\": %zu, \"set_up\": %.6g, ", 1e3 * median,
              1e3 * seconds.front(), 1e3 * seconds.back(), seconds.size(), 1e3 * set_up_seconds);
  print_bounds(bounds);
  std::printf(", \"repeatable\": %s, \"arena_bytes\": %zu, \"parameter_bytes\": %zu, \"driver_bytes\": %zu}\n",
              repeatable ? "true" : "false", machine.memory().peak(), parameters<net>::size * sizeof(float),
              after > before ? after - before : 0);
}

int usage(std::string const& what) {
  std::fprintf(stderr,
               "bench_cuda: %s\nusage: %s [--method ibp|crown|alpha-crown] [--rounding nearest|outward] [--precision "
               "fp32|tf32x3|fp16x3] [--device %s] "
               "[--repeat N] [--warmup N] [--seconds S] [--row-bytes N] [--intersect yes|no] [--weights FILE] "
               "[--radius R]\n",
               what.c_str(), work_name, device_name);
  return 2;
}

int main(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], work_name) != 0) return usage("this binary knows one network");
  std::map<std::string, std::string> text{{"--method", "crown"},     {"--rounding", "outward"}, {"--precision", "fp32"},
                                          {"--device", device_name}, {"--repeat", "10"},        {"--warmup", "3"},
                                          {"--seconds", "60"},       {"--row-bytes", "0"},      {"--intersect", "yes"},
                                          {"--weights", ""},         {"--radius", "0.001"}};
  for (int i = 2; i < argc; i += 2) {
    auto const option = text.find(argv[i]);
    if (option == text.end()) return usage(std::string("unknown option ") + argv[i]);
    if (i + 1 == argc) return usage(option->first + " wants a value");
    option->second = argv[i + 1];
  }
  auto const is_one_of = [&](char const* option, auto const&... allowed) { return ((text[option] == allowed) || ...); };
  if (!is_one_of("--method", "ibp", "crown", "alpha-crown")) return usage("which method?");
  if (!is_one_of("--rounding", "nearest", "outward")) return usage("which rounding?");
  if (!is_one_of("--precision", "fp32", "tf32x3", "fp16x3")) return usage("which precision?");
  if (!is_one_of("--intersect", "yes", "no")) return usage("--intersect yes or no?");
  if (!is_one_of("--device", device_name)) return usage("compiled for another device");
  auto const number = [&](char const* option) { return std::strtoul(text[option].c_str(), nullptr, 10); };
  options const given{.method = text["--method"],
                      .rounding = text["--rounding"],
                      .precision = text["--precision"],
                      .weights = text["--weights"],
                      .repeat = std::max(1ul, number("--repeat")),
                      .warmup = number("--warmup"),
                      .row_bytes = number("--row-bytes"),
                      .seconds = std::strtod(text["--seconds"].c_str(), nullptr),
                      .radius = std::strtod(text["--radius"].c_str(), nullptr),
                      .intersect = text["--intersect"] == "yes"};
  try {
    bool const nearest = given.rounding == "nearest";
    if (given.precision == "fp32") nearest ? measure<Nearest, Fp32>(given) : measure<Outward, Fp32>(given);
    if (given.precision == "tf32x3") nearest ? measure<Nearest, Tf32x3>(given) : measure<Outward, Tf32x3>(given);
    if (given.precision == "fp16x3") nearest ? measure<Nearest, Fp16x3>(given) : measure<Outward, Fp16x3>(given);
  } catch (std::exception const& e) {
    std::fprintf(stderr, "bench_cuda: %s\n", e.what());
    return 1;
  }
  return 0;
}
