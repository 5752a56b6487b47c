// SPDX-License-Identifier: Apache-2.0
// The product of product.cuh on the tensor cores of compute capability 9.0 (wgmma): every float is a pair of halfs, and
// of the four products of parts the three large ones are summed (Fp16x3). docs/soundness_tensor.md, section 9, derives
// the constants of `half_order`. Operands are packed first, in panels, so the product itself reads shared memory that
// one thread fills with bulk copies.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <hull/backend/cuda/chain_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/cuda/half_pairs.cuh>
#include <hull/backend/cuda/tensor_product.cuh>
#include <hull/backend/cuda/wgmma.cuh>
#include <hull/backend/summation.hpp>
#include <hull/propagate/rounding_error.hpp>

namespace hull::cuda {

/// As tensor_order, for a row of A whose largest magnitude is a_max and a B whose largest is b_max:
/// |C - exact| <= relative_error(terms) sum |a b| + range_error (a_max sum |b| + b_max sum |a|)
///                + sum over terms of product_floor + operand_floor (|a| + |b|).
struct half_order final {
  // of all that splitting loses, of the sum of small parts, and of one addition to C by a panel that is not the first
  static constexpr double split_error = 7 * 0x1p-23;
  static constexpr double range_error = 0x1p-38;  // of numbers far below the largest
  static constexpr double product_floor = tensor_order::product_floor, operand_floor = tensor_order::operand_floor;

  [[nodiscard]] static constexpr double chain_error(std::size_t terms) {
    return static_cast<double>(tensor_order::groups(terms)) * tensor_order::group_error + split_error;
  }
  [[nodiscard]] static constexpr std::size_t additions(std::size_t terms) { return product_additions(terms); }
  [[nodiscard]] static constexpr double relative_error(std::size_t terms) {
    return chain_error(terms) + (1 + chain_error(terms)) * gamma(additions(terms), unit_float);
  }
};

/// A block computes 64 * Warpgroups rows x Columns of C; each of its warpgroups 64 rows, `part` columns at a time. One
/// more warpgroup copies. Stages: buffers of a chain each.
template <unsigned Warpgroups, unsigned Columns, unsigned Stages, unsigned Blocks>
struct half_tile final {
  static constexpr unsigned warpgroups = Warpgroups, rows = 64 * Warpgroups, columns = Columns, stages = Stages,
                            blocks = Blocks, threads = warpgroup * (Warpgroups + 1);
  static constexpr unsigned part = std::min(Columns, 128u), parts = Columns / part;
  static constexpr unsigned line_bytes = 128, a_bytes = rows * line_bytes, stage_bytes = a_bytes + Columns * line_bytes;
  static constexpr unsigned alignment = 1024;  // of eight lines
  // of a thread: at the launch of a block with the whole register file; then of one that copies, and one that
  // multiplies
  static constexpr unsigned registers = 65536 / threads / 8 * 8, few_registers = 40, many_registers = 232;
  static constexpr bool moves_registers = Warpgroups > 1;
  static constexpr std::size_t bytes = std::size_t{Stages} * stage_bytes + alignment;

  static_assert(!moves_registers || few_registers + Warpgroups * many_registers <= (Warpgroups + 1) * registers,
                "hull: the block would wait for registers for ever");
  static_assert(packed_lines::group % rows == 0 && packed_lines::group % Columns == 0 && Columns % part == 0);
};
using large_half_tile = half_tile<2, 256, 4, 1>;
using middle_half_tile = half_tile<2, 128, 6, 1>;
using small_half_tile = half_tile<1, 64, 5, 2>;

/// Goes around the buffers of a pipeline.
template <unsigned Stages>
struct pipeline_place final {
  unsigned stage = 0, parity = 0;

  __device__ void advance() {
    if (++stage == Stages) stage = 0, parity ^= 1;
  }
};

/// What the kernel multiplies. B's columns in the packed matrix are those of C.
struct half_problem final {
  packed_lines a, b;
  float const* unscale;  // [rows]
  float unscale_b;
  unsigned rows, columns, chunks;
  float* c;
  std::size_t c_stride;
  bool overwrite;
};

/// Tiles are dealt to blocks; the copies of a block's next tile begin while it stores the last one.
template <class T>
__global__ void __launch_bounds__(T::threads, T::blocks) half_product_kernel(half_problem const p) {
  extern __shared__ uint4 half_shared[];
  __shared__ barrier full[T::stages], empty[T::stages];
  auto const start = static_cast<unsigned>(__cvta_generic_to_shared(half_shared));
  std::byte* const shared = reinterpret_cast<std::byte*>(half_shared) + (T::alignment - start % T::alignment);
  if (threadIdx.x == 0) {
    for (unsigned s = 0; s < T::stages; ++s) full[s].begin(1), empty[s].begin(T::warpgroups * warpgroup / warp);
    barrier::publish();
  }
  __syncthreads();
  unsigned const down = (p.rows + T::rows - 1) / T::rows, across = (p.columns + T::columns - 1) / T::columns;
  pipeline_place<T::stages> at;

  if (threadIdx.x < warpgroup) {
    if constexpr (T::moves_registers) release_registers<T::few_registers>();
    if (threadIdx.x != 0) return;
    for (unsigned tile = blockIdx.x; tile < down * across; tile += gridDim.x) {
      unsigned const row = tile % down * T::rows, column = tile / down * T::columns;
      for (unsigned chunk = 0; chunk < p.chunks; ++chunk, at.advance()) {
        std::byte* const to = shared + at.stage * T::stage_bytes;
        empty[at.stage].wait(at.parity ^ 1);
        full[at.stage].arrive_and_expect(T::stage_bytes);
        full[at.stage].copy(to, p.a.line(chunk, row), T::a_bytes);
        full[at.stage].copy(to + T::a_bytes, p.b.line(chunk, column), T::stage_bytes - T::a_bytes);
      }
    }
    return;
  }

  if constexpr (T::moves_registers) take_registers<T::many_registers>();
  unsigned const number = threadIdx.x / warpgroup - 1, in_group = threadIdx.x % warpgroup, lane = in_group % warp;
  for (unsigned tile = blockIdx.x; tile < down * across; tile += gridDim.x) {
    float sum[T::parts][T::part / 2] = {};
    for (unsigned chunk = 0; chunk < p.chunks; ++chunk, at.advance()) {
      std::byte const* const from = shared + at.stage * T::stage_bytes;
      full[at.stage].wait(at.parity);
      std::uint64_t const a = describe_lines(from + number * 64 * T::line_bytes);
#pragma unroll
      for (unsigned part = 0; part < T::parts; ++part) {
        std::uint64_t const b = describe_lines(from + T::a_bytes + part * T::part * T::line_bytes);
        constexpr unsigned next = 2, small = 4;  // 16 terms on, and the small parts, in units of 16 bytes
        float chain[T::part / 2];
        pin(chain);
        begin_products();
        multiply_halfs(chain, a + small, b, false);
        multiply_halfs(chain, a + small + next, b + next, true);
        multiply_halfs(chain, a, b + small, true);
        multiply_halfs(chain, a + next, b + small + next, true);
        multiply_halfs(chain, a, b, true);
        multiply_halfs(chain, a + next, b + next, true);
        end_products();
        await_products<0>();
        pin(chain);
        if (part + 1 == T::parts && lane == 0) empty[at.stage].arrive();
#pragma unroll
        for (unsigned i = 0; i < T::part / 2; ++i) sum[part][i] = __fadd_rn(sum[part][i], chain[i]);
      }
    }
    unsigned const row = tile % down * T::rows + number * 64 + in_group / warp * 16 + lane / 4;
    unsigned const column = tile / down * T::columns + lane % 4 * 2;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      unsigned const r = row + half * 8;
      if (r >= p.rows) break;
      // exact in double; one rounding where the float underflows
      double const unscale = static_cast<double>(p.unscale[r]) * static_cast<double>(p.unscale_b);
      float* const line = p.c + r * p.c_stride;
#pragma unroll
      for (unsigned part = 0; part < T::parts; ++part) {
#pragma unroll
        for (unsigned i = 0; i < T::part / 2; ++i) {
          if (i / 2 % 2 != half) continue;
          unsigned const j = column + part * T::part + i / 4 * 8 + i % 2;
          if (j >= p.columns) continue;
          float const found = static_cast<float>(sum[part][i] * unscale);
          line[j] = p.overwrite ? found : __fadd_rn(line[j], found);
        }
      }
    }
  }
}

template <class T>
void launch_half_product(cudaStream_t stream, std::size_t processors, half_problem const& p) {
  allow_shared(half_product_kernel<T>, T::bytes);
  std::size_t const tiles = std::size_t{(p.rows + T::rows - 1) / T::rows} * ((p.columns + T::columns - 1) / T::columns);
  auto const blocks = static_cast<unsigned>(std::min(tiles, processors * T::blocks));
  half_product_kernel<T><<<blocks, T::threads, T::bytes, stream>>>(p);
  check_launch("product of pairs of halfs");
}

/// Rows of A, columns of B and terms that are packed at once.
inline constexpr std::size_t half_panel = 4096;

/// Floats of scratch for products of so many terms and columns: 128 MiB at most.
[[nodiscard]] constexpr std::size_t half_scratch_floats(std::size_t terms, std::size_t columns) {
  std::size_t const deep = std::min(half_panel, terms);
  return half_panel + packed_lines::floats(half_panel, deep) +
         packed_lines::floats(std::min(half_panel, columns), deep);
}

/// C (+)= A B for one panel each of rows, columns and terms, with the tile that should be fastest. All tiles give the
/// same bits.
inline void half_panel_product(cudaStream_t stream, std::size_t processors, half_problem const& p) {
  // waves of blocks, times how long a block takes: measured on an H100
  auto const time = [&](std::size_t down, std::size_t across, std::size_t together, double each) {
    std::size_t const tiles = ((p.rows + down - 1) / down) * ((p.columns + across - 1) / across);
    return each * static_cast<double>((tiles + processors * together - 1) / (processors * together));
  };
  double const large = time(128, 256, 1, 1), middle = time(128, 128, 1, 0.55), small = time(64, 64, 2, 0.41);
  if (large <= middle && large <= small) {
    launch_half_product<large_half_tile>(stream, processors, p);
  } else if (middle <= small) {
    launch_half_product<middle_half_tile>(stream, processors, p);
  } else {
    launch_half_product<small_half_tile>(stream, processors, p);
  }
}

/// As product(); B finite, `largest` at least its largest magnitude. NaN or
/// infinity in a row of A makes NaN of the whole row of C. `scratch`: half_scratch_floats, aligned to 16 bytes. An
/// element depends on its row of A, its column of B, what C held, `largest` and the number of terms alone.
/// Cost: 2 rows terms columns FLOP, three times that on tensor cores; 12 bytes for each element of A and B and panel.
/// `Tile` void: the one that should be fastest. The device must have_wgmma().
template <class Tile = void, bool Transposed>
void half_product(cudaStream_t stream, std::size_t processors, plain_rows const& a, std::size_t rows, std::size_t terms,
                  gathered<Transposed> const& b, std::size_t columns, float largest, float* c, std::size_t c_stride,
                  bool overwrite, float* scratch) {
  if (rows == 0) return;
  float const scale = scale_of(largest);
  float* const unscale = scratch;
  auto* const first_line = reinterpret_cast<uint4*>(scratch + half_panel);
  auto const number = [](std::size_t n) { return static_cast<unsigned>(n); };
  for (std::size_t column = 0; column < columns; column += half_panel) {
    std::size_t const wide = std::min(half_panel, columns - column);
    for (std::size_t term = 0; term < std::max<std::size_t>(terms, 1); term += half_panel) {
      std::size_t const deep = std::min(half_panel, terms - term), chunks = packed_lines::chunks(deep);
      packed_lines const packed_b{first_line, number(packed_lines::padded(wide))};
      packed_lines packed_a{packed_b.line(chunks, 0), 0};
      if (chunks > 0) {
        pack_columns_kernel<<<dim3(packed_b.lines / 64, number(chunks)), 256, 0, stream>>>(
            b, number(term), number(deep), number(column), number(wide), packed_b, scale);
      }
      for (std::size_t row = 0; row < rows; row += half_panel) {
        std::size_t const high = std::min(half_panel, rows - row);
        packed_a.lines = number(packed_lines::padded(high));
        pack_rows_kernel<256>
            <<<number(high), 256, 0, stream>>>(a.a + row * a.stride + term, a.stride, number(deep), packed_a, unscale);
        half_problem const p{packed_a,       packed_b,
                             unscale,        1 / scale,
                             number(high),   number(wide),
                             number(chunks), c + row * c_stride + column,
                             c_stride,       overwrite && term == 0};
        if constexpr (std::is_void_v<Tile>) {
          half_panel_product(stream, processors, p);
        } else {
          launch_half_product<Tile>(stream, processors, p);
        }
      }
    }
  }
}

}  // namespace hull::cuda
