// SPDX-License-Identifier: Apache-2.0
// Instructions of compute capability 9.0a: products of a warpgroup from shared memory, bulk copies, and the barriers
// between them. PTX ISA 8.x, sections "Asynchronous warpgroup level matrix instructions" and "mbarrier".
// In code for other chips products stop the kernel, and the other functions do nothing: a program compiled for 9.0
// without the `a` would find its way there, and must not compute with what it has not.
#pragma once

#include <cstddef>
#include <cstdint>

#include <hull/backend/cuda/device.cuh>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HULL_WGMMA 1
#else
#define HULL_WGMMA 0
#endif

namespace hull::cuda {

inline constexpr unsigned warpgroup = 128;

/// Whether the current device runs the kernels of this file.
[[nodiscard]] inline bool has_wgmma() {
  int number = 0, major = 0;
  check(cudaGetDevice(&number), "current device");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number), "compute capability");
  return major == 9;
}

/// Where lines of 128 bytes lie in shared memory, in groups of eight whose 16-byte pieces are permuted: piece p of line
/// r is at p ^ (r % 8). `line` is the first of a group.
[[nodiscard]] __device__ inline std::uint64_t describe_lines(void const* line) {
  constexpr std::uint64_t eight_lines = 8 * 128 / 16, permuted = std::uint64_t{1} << 62;
  auto const address = static_cast<std::uint64_t>(__cvta_generic_to_shared(line));
  return (address & 0x3ffff) >> 4 | std::uint64_t{1} << 16 | eight_lines << 32 | permuted;
}

/// Between ordinary accesses to accumulators and the products that follow.
__device__ inline void begin_products() {
#if HULL_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  __trap();
#endif
}
__device__ inline void end_products() {
#if HULL_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <unsigned Pending>
__device__ void await_products() {
#if HULL_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
}
/// Keeps the compiler from moving accesses to an accumulator over products that are under way.
template <std::size_t N>
__device__ void pin(float (&d)[N]) {
#pragma unroll
  for (std::size_t i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// d (+)= A B: 64 lines of A, 128 or 64 of B, 16 halfs of each. Number i of d: row (i / 2) % 2 * 8 + lane / 4 of the
/// 16 rows of a warp, column i / 4 * 8 + lane % 4 * 2 + i % 2.
__device__ inline void multiply_halfs(float (&d)[64], std::uint64_t a, std::uint64_t b, bool add) {
#if HULL_WGMMA
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, 0, 0; }"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#endif
}
__device__ inline void multiply_halfs(float (&d)[32], std::uint64_t a, std::uint64_t b, bool add) {
#if HULL_WGMMA
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, 0, 0; }"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#endif
}

/// Barrier in shared memory that completes once `arrivals` threads have arrived and all bytes they announced are there.
class barrier final {
 public:
  __device__ void begin(unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory");
  }
  /// Makes begin() of all barriers known to the copy engine; then the block synchronises.
  __device__ static void publish() {
#if HULL_WGMMA
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  __device__ void arrive() {
    asm volatile("{ .reg .b64 t; mbarrier.arrive.shared::cta.b64 t, [%0]; }" ::"r"(address()) : "memory");
  }
  __device__ void arrive_and_expect(unsigned bytes) {
#if HULL_WGMMA
    asm volatile("{ .reg .b64 t; mbarrier.arrive.expect_tx.shared::cta.b64 t, [%0], %1; }" ::"r"(address()), "r"(bytes)
                 : "memory");
#endif
  }
  /// Waits for the end of the phase with this parity.
  __device__ void wait(unsigned parity) {
#if HULL_WGMMA
    asm volatile(
        "{ .reg .pred p;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
        "@!p bra again; }" ::"r"(address()),
        "r"(parity)
        : "memory");
#endif
  }
  /// Starts a copy of a multiple of 16 bytes, both ends aligned to 16, that this barrier counts.
  __device__ void copy(void* to, void const* from, unsigned bytes) {
#if HULL_WGMMA
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from), "r"(bytes), "r"(address())
                 : "memory");
#endif
  }

 private:
  [[nodiscard]] __device__ unsigned address() const { return static_cast<unsigned>(__cvta_generic_to_shared(&state_)); }

  std::uint64_t state_;
};

/// Gives registers of a warpgroup back, or takes them: a block that asks for more than it was launched with waits for
/// ever.
template <unsigned Registers>
__device__ void release_registers() {
#if HULL_WGMMA
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}
template <unsigned Registers>
__device__ void take_registers() {
#if HULL_WGMMA
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

}  // namespace hull::cuda
