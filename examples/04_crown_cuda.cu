// SPDX-License-Identifier: Apache-2.0
// examples/03_crown_cpu.cpp on a GPU: another header and another machine. Ends with 77 where there is no GPU.
#include <cstdio>

#include <hull/cuda.cuh>

using namespace hull;

// A network is a type: two inputs, three hidden neurons, two scores.
struct classifier final : decltype(Input<2> >> Linear<"fc1", 3> >> Relu >> Linear<"fc2", 2>) {};

int main() {
  if (int devices = 0; cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no GPU: skipped");
    return 77;
  }
  // Its numbers are values, found by the name of the layer. Weights are [out, in], row major.
  parameter_table const numbers{{"fc1.weight", {1, 1, 1, -1, -1, 1}},
                                {"fc1.bias", {0, 0, 0}},
                                {"fc2.weight", {1, 2, 0, 1, 0, 2}},
                                {"fc2.bias", {0.5f, 0}}};

  hull::cuda::bounder<classifier> bounds(numbers);    // hull::, because NVIDIA's headers may have a ::cuda
  auto const region = box_around({0.6f, 0.3f}, 0.2);  // each input may move by 0.2, both ways
  auto const margin = margin_form(0, 1);              // y_0 - y_1

  double const intervals = bounds.ibp(region, {margin})[0];
  double const crown = bounds.crown(region, {margin})[0];
  std::printf("y_0 - y_1 >= %.4f by intervals, >= %.4f by CROWN\n", intervals, crown);
  std::puts(crown > 0 ? "class 0 wins everywhere in the box" : "unknown");
  return crown > 0 ? 0 : 1;
}
