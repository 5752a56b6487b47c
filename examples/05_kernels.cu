// SPDX-License-Identifier: Apache-2.0
// One kernel on its own: hull::cuda::product, the step of CROWN through a Linear layer, C [rows, columns] = A W over
// the live neurons of W, timed for layers of growing width. Ends with 77 where there is no GPU.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <random>
#include <type_traits>
#include <vector>

#include <hull/backend/cuda/product.cuh>

using namespace hull;
namespace gpu = hull::cuda;  // NVIDIA's headers may have a ::cuda

/// An event on the device's clock.
class moment final {
 public:
  explicit moment(cudaStream_t stream) {
    gpu::check(cudaEventCreate(&event_), "event");
    gpu::check(cudaEventRecord(event_, stream), "event");
  }
  moment(moment const&) = delete;
  moment& operator=(moment const&) = delete;
  ~moment() { cudaEventDestroy(event_); }

  [[nodiscard]] float milliseconds_since(moment const& start) const {
    float passed = 0;
    gpu::check(cudaEventSynchronize(event_), "a kernel");
    gpu::check(cudaEventElapsedTime(&passed, start.event_, event_), "time");
    return passed;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

int main() {
  if (int devices = 0; cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no GPU: skipped");
    return 77;
  }
  gpu::device const device(1);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  bool right = true;
  for (std::size_t const width : {256, 1024, 4096}) {
    std::size_t const rows = width / 2,
                      live = width / 4 * 3;  // rows on their way; a quarter of the neurons is inactive
    std::vector<float> a(rows * live), w(width * width), c(rows * live);
    std::vector<index_t> neurons(live);
    for (float& value : a) value = uniform(random);
    for (float& value : w) value = uniform(random);
    for (std::size_t i = 0; i < live; ++i) neurons[i] = static_cast<index_t>(i + i / 3);
    auto const on_device = [&](auto const& numbers) {
      auto block = gpu::allocate<std::remove_cvref_t<decltype(numbers[0])>>(numbers.size());
      device.write(block.get(), numbers.data(), numbers.size());
      return block;
    };
    auto const da = on_device(a), dw = on_device(w), dc = on_device(c);
    auto const list = on_device(neurons);
    gpu::gathered<false> const layer{dw.get(), static_cast<unsigned>(width), list.get(), list.get()};
    auto const multiply = [&] {
      gpu::product(device.stream(), device.processors(), {da.get(), live}, rows, live, layer, live, dc.get(), live,
                   true);
    };

    multiply();  // the first launch loads the kernel
    constexpr int repeat = 20;
    moment const start(device.stream());
    for (int i = 0; i < repeat; ++i) multiply();
    moment const end(device.stream());
    double const ms = static_cast<double>(end.milliseconds_since(start)) / repeat;
    double const flop = 2.0 * static_cast<double>(rows * live * live);

    device.read(c.data(), dc.get(), c.size());
    double exact = 0;  // one element
    for (std::size_t k = 0; k < live; ++k) exact += double{a[k]} * double{w[neurons[k] * width + neurons[live - 1]]};
    right = right && std::fabs(exact - double{c[live - 1]}) < 1e-3;
    std::printf("width %5zu: %8.4f ms, %6.2f TFLOP/s\n", width, ms, flop / ms * 1e-9);
  }
  return right ? 0 : 1;
}
