// SPDX-License-Identifier: Apache-2.0
// The scalar layer on the device: directed operations equal the host's, elementary functions enclose the real ones as
// computed in extended precision on the host, and lines made by a kernel hold.
#include <bit>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include <hull/ops/batch_normalization.hpp>
#include <hull/ops/div_constant.hpp>
#include <hull/ops/leaky_relu.hpp>
#include <hull/ops/relu.hpp>
#include <hull/ops/sigmoid.hpp>
#include <hull/ops/tanh.hpp>

using namespace hull;

namespace {

template <class F, class In, class Out>
__global__ void map_kernel(F f, In const* in, Out* out, int n) {
  int const i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = f(in[i]);
}

/// f of every element, computed on the device.
template <class F, class In>
auto on_device(F f, std::vector<In> const& in) {
  using Out = decltype(f(in[0]));
  std::vector<Out> out(in.size());
  In* device_in = nullptr;
  Out* device_out = nullptr;
  REQUIRE(cudaMalloc(&device_in, in.size() * sizeof(In)) == cudaSuccess);
  REQUIRE(cudaMalloc(&device_out, out.size() * sizeof(Out)) == cudaSuccess);
  cudaMemcpy(device_in, in.data(), in.size() * sizeof(In), cudaMemcpyHostToDevice);
  int const n = static_cast<int>(in.size());
  map_kernel<<<(n + 255) / 256, 256>>>(f, device_in, device_out, n);
  cudaMemcpy(out.data(), device_out, out.size() * sizeof(Out), cudaMemcpyDeviceToHost);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  cudaFree(device_in);
  cudaFree(device_out);
  return out;
}

template <class T>
struct triple {
  T a, b, c;
};

template <class T>
struct results {
  T up[6];
  T down[6];
};

template <class T>
struct all_operations {
  HULL_FN results<T> operator()(triple<T> x) const {
    return {{up::add(x.a, x.b), up::sub(x.a, x.b), up::mul(x.a, x.b), up::div(x.a, x.b), up::sqrt(x.a),
             up::fma(x.a, x.b, x.c)},
            {down::add(x.a, x.b), down::sub(x.a, x.b), down::mul(x.a, x.b), down::div(x.a, x.b), down::sqrt(x.a),
             down::fma(x.a, x.b, x.c)}};
  }
};

/// Half of the numbers have random bits, half are near 1.
template <class T>
std::vector<triple<T>> triples() {
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  std::mt19937_64 engine(11);
  auto const draw = [&] {
    T const any = std::bit_cast<T>(static_cast<bits>(engine()));
    return engine() % 2 == 0 ? any : static_cast<T>(std::uniform_real_distribution<double>(-4, 4)(engine));
  };
  std::vector<triple<T>> result(1'000'000);
  for (auto& x : result) x = {draw(), draw(), draw()};
  return result;
}

/// Whether `got`, on the device, is `host` or, if `host` may be loose, one step further in.
template <class T>
bool agrees(T got, T host, bool upward, bool loose) {
  if (std::isnan(host)) return std::isnan(got);
  return got == host || (loose && (upward ? up::next(got) : down::next(got)) == host);
}

template <class T>
long disagreements() {
  auto const in = triples<T>();
  auto const out = on_device(all_operations<T>{}, in);
  long wrong = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    results<T> const host = all_operations<T>{}(in[i]);
    for (int k = 0; k < 6; ++k) {
      wrong += !agrees(out[i].up[k], host.up[k], true, sizeof(T) == 8);
      wrong += !agrees(out[i].down[k], host.down[k], false, sizeof(T) == 8);
    }
  }
  return wrong;
}

struct exp_of {
  HULL_FN interval<double> operator()(double x) const { return {down::exp(x), up::exp(x)}; }
};
struct sigmoid_of {
  HULL_FN interval<double> operator()(double x) const { return {down::sigmoid(x), up::sigmoid(x)}; }
};
struct slope_of {
  HULL_FN interval<double> operator()(double x) const { return {down::sigmoid_slope(x), up::sigmoid_slope(x)}; }
};
struct tanh_of {
  HULL_FN interval<double> operator()(double x) const { return {down::tanh(x), up::tanh(x)}; }
};

template <class F, class Exact>
long misses(F f, Exact exact) {
  std::vector<double> in;
  for (double x = 5e-324; x < 1e308; x += std::fmax(x * 1e-3, 5e-324)) in.insert(in.end(), {x, -x});
  for (double x = -1000; x < 1000; x += 0.00137) in.push_back(x);
  auto const out = on_device(f, in);
  long missed = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    long double const value = exact(static_cast<long double>(in[i]));
    missed += !(out[i].lower <= value && value <= out[i].upper);
  }
  return missed;
}

struct relaxed {
  interval<float> image;
  lines<float> around;
};

template <class F>
struct relax_of {
  F f;
  HULL_FN relaxed operator()(interval<float> box) const { return {f.image(box), f.relax(box)}; }
};

/// Points at which a kernel's lines or image do not hold. 2^-60 of the terms is the oracle's own rounding.
template <class F>
long unsound(F f) {
  std::mt19937 engine(12);
  std::uniform_real_distribution<float> unit(-1, 1);
  std::vector<interval<float>> boxes;
  for (float scale : {1e-40f, 1e-6f, 0.1f, 1.0f, 3.0f, 10.0f, 100.0f, 1e30f, 3e38f}) {
    for (int i = 0; i < 20000; ++i) {
      float const a = scale * unit(engine);
      float const b = i % 4 == 0 ? std::nextafter(a, 4e38f) : scale * unit(engine);
      boxes.push_back(a < b ? interval<float>{a, b} : interval<float>{b, a});
    }
  }
  auto const out = on_device(relax_of<F>{f}, boxes);
  long wrong = 0;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    for (float share : {0.0f, 0.1f, 0.5f, 0.9f, 1.0f}) {
      float const t = (1 - share) * boxes[i].lower + share * boxes[i].upper;
      if (!contains(boxes[i], t)) continue;
      long double const value = f.eval(static_cast<long double>(t));
      auto const [lower, upper] = out[i].around;
      long double const low = static_cast<long double>(lower.slope) * t + lower.bias;
      long double const high = static_cast<long double>(upper.slope) * t + upper.bias;
      long double const slack = 0x1p-60L * (std::fabs(value) + std::fabs(static_cast<long double>(lower.slope) * t) +
                                            std::fabs(static_cast<long double>(upper.slope) * t));
      wrong += !(low <= value + slack && value <= high + slack);
      wrong += !(out[i].image.lower <= value + slack && value <= out[i].image.upper + slack);
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("directed operations of the device equal the host's") {
  CHECK(disagreements<float>() == 0);
  CHECK(disagreements<double>() == 0);
}

TEST_CASE("elementary functions of the device enclose the real ones") {
  auto const sigmoid = [](long double x) {
    long double const e = std::exp(-std::fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
  };
  auto const slope = [](long double x) {
    long double const e = std::exp(-std::fabs(x));
    return e / ((1 + e) * (1 + e));
  };
  auto const tanh = [](long double x) { return std::fabs(x) < 1e-6L ? x - x * x * x / 3 : std::tanh(x); };
  CHECK(misses(exp_of{}, [](long double x) { return std::exp(x); }) == 0);
  CHECK(misses(sigmoid_of{}, sigmoid) == 0);
  CHECK(misses(slope_of{}, slope) == 0);
  CHECK(misses(tanh_of{}, tanh) == 0);
}

TEST_CASE("lines and images made on the device hold") {
  CHECK(unsound(relu_t{}) == 0);
  CHECK(unsound(leaky_relu_by{0.1f}) == 0);
  CHECK(unsound(leaky_relu_by{2.7f}) == 0);
  CHECK(unsound(sigmoid_t{}) == 0);
  CHECK(unsound(tanh_t{}) == 0);
  CHECK(unsound(div_by{0.3f}) == 0);
  CHECK(unsound(batch_normalization_by{0.7f, -0.2f, 3.1f, 2.3f, 1e-5f}) == 0);
}
