// SPDX-License-Identifier: Apache-2.0
// The main function of every test program that needs a GPU. Where there is none it ends with 77, which ctest takes for
// "skipped".
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cuda_runtime.h>
#include <doctest/doctest.h>

int main(int argc, char** argv) {
  int count = 0;
  cudaError_t const found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess || count == 0) {
    std::printf("skipped: %s\n", cudaGetErrorString(found));
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
