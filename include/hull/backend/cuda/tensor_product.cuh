// SPDX-License-Identifier: Apache-2.0
// The product of product.cuh on tensor cores: every float is split into two TF32 numbers, and of the four products of
// parts the three large ones are summed (Tf32x3). docs/soundness_tensor.md derives the constants of `tensor_order`.
// Every element is summed in an order that the number of terms alone fixes, whatever the tile.
#pragma once

#include <algorithm>
#include <cstddef>

#include <hull/backend/cuda/chain_product.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>
#include <hull/core/error.hpp>
#include <hull/propagate/rounding_error.hpp>

namespace hull::cuda {

/// |C - exact| <= relative_error(terms) sum |a b| + sum over terms of product_floor + operand_floor (|a| + |b|), for a
/// C that was zero. Each addition rounds what C holds: one that was not zero errs by gamma(additions(terms)) of it,
/// too.
struct tensor_order final {
  static constexpr std::size_t group_terms = 4;       // products that the hardware adds at once, at least
  static constexpr double group_error = 6 * 0x1p-23;  // of one such sum: 4 products, what was there, the result
  static constexpr double split_error = 5 * 0x1p-23;  // of all that splitting loses, and of the sum of small parts
  static constexpr double product_floor = 8 * float_floor;  // per term
  static constexpr double operand_floor = 2 * float_floor;  // per term, relative to |a| + |b|

  /// Sums one after the other in one chain.
  [[nodiscard]] static constexpr std::size_t groups(std::size_t terms) {
    return std::min(terms, chain_terms / group_terms);
  }
  /// Of a chain before it is added to C, relative to its sum |a b|.
  [[nodiscard]] static constexpr double chain_error(std::size_t terms) {
    return static_cast<double>(groups(terms)) * group_error + split_error;
  }
  [[nodiscard]] static constexpr std::size_t additions(std::size_t terms) { return product_additions(terms); }

  [[nodiscard]] static constexpr double relative_error(std::size_t terms) {
    return chain_error(terms) + (1 + chain_error(terms)) * gamma(additions(terms), unit_float);
  }
};

/// A block computes Rows x Columns of C, a warp WarpRows x WarpColumns of it, PartRows rows at a time; Stages buffers
/// hold one chain each. Blocks: so many shall fit on a multiprocessor.
template <unsigned Rows, unsigned Columns, unsigned WarpRows, unsigned WarpColumns, unsigned PartRows, unsigned Stages,
          unsigned Blocks>
struct tensor_tile final {
  static constexpr unsigned rows = Rows, columns = Columns, warp_rows = WarpRows, warp_columns = WarpColumns,
                            stages = Stages, blocks = Blocks;
  static constexpr unsigned across = Columns / WarpColumns, warps = Rows / WarpRows * across, threads = warps * warp;
  static constexpr unsigned parts = WarpRows / PartRows, down_part = PartRows / 16, across_part = WarpColumns / 8;
  static constexpr unsigned depth = static_cast<unsigned>(chain_terms);

  // a line of shared memory holds the terms of one row or column, or the columns of one term: no bank conflicts
  static constexpr unsigned terms_stride = depth + 4, columns_stride = Columns + 2;
  static constexpr unsigned a_floats = Rows * terms_stride;
  static constexpr unsigned b_floats = std::max(Columns * terms_stride, depth* columns_stride);
  static constexpr unsigned stage_floats = a_floats + b_floats;
  static constexpr std::size_t bytes = std::size_t{Stages} * stage_floats * sizeof(float);

  // what one thread copies: an element of each of so many lines, spread over the slots of a stage
  static constexpr unsigned a_lines = Rows / warps, b_lines = Columns / warps, slots = parts * (depth / 8);
  static constexpr unsigned groups = Columns / warp;  // of 32 columns

  static_assert(depth == warp && Stages >= 2 && WarpRows % PartRows == 0 && PartRows % 16 == 0 && WarpColumns % 8 == 0);
  static_assert(columns_stride % 8 == 2 && terms_stride % 8 == 4 && a_floats % 4 == 0 && stage_floats % 4 == 0);
  static_assert(a_lines % slots == 0 && b_lines % slots == 0 && b_lines <= warp && warps % groups == 0);
};
using large_tensor_tile = tensor_tile<128, 128, 64, 32, 32, 3, 1>;
using middle_tensor_tile = tensor_tile<64, 64, 32, 32, 32, 3, 2>;
using small_tensor_tile = tensor_tile<32, 32, 16, 16, 16, 4, 4>;

/// Rows and columns of a fragment are dealt to lines like this where a line holds terms: reads of 16 bytes by lanes 2 i
/// and 2 i + 1 fall on lines that are 4 apart, hence on different banks.
[[nodiscard]] HULL_FN constexpr unsigned dealt(unsigned i) { return i / 2 + i % 2 * 4; }

/// A float as a sum of two numbers with 11 bits each: `large` is rounded to nearest, the low 13 bits of `small` are
/// left to the hardware, which ignores them. NaN and infinity make `small` NaN.
struct tf32_pair final {
  unsigned large, small;
};
__device__ inline tf32_pair split(float x) {
  unsigned const large = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  return {large, __float_as_uint(__fsub_rn(x, __uint_as_float(large)))};
}

/// d = a b + c for 16 x 8 elements and 8 terms.
__device__ inline void multiply(float (&d)[4], unsigned const (&a)[4], unsigned const (&b)[2], float const (&c)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/// Starts the copy of a float to byte `to` of shared memory, if `wanted`; of a zero unless `there`.
__device__ inline void copy_float(unsigned to, char const* from, bool wanted, bool there) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; @p cp.async.ca.shared.global [%0], [%1], 4, %3; }"
               :
               : "r"(to), "l"(from), "r"(static_cast<int>(wanted)), "r"(there ? 4 : 0));
}
__device__ inline void copy_float(unsigned to, char const* from, bool wanted) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; @p cp.async.ca.shared.global [%0], [%1], 4; }"
               :
               : "r"(to), "l"(from), "r"(static_cast<int>(wanted)));
}
[[nodiscard]] __device__ inline unsigned shared_byte(void const* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <unsigned Pending>
__device__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// What a thread copies to shared memory. Rows and columns outside are replaced by the last ones, whose sums nobody
/// stores; terms outside are zeros of A. Indices of terms are read one chain before they are needed.
template <class T, bool Transposed>
class tensor_source final {
 public:
  __device__ tensor_source(plain_rows const& a, unsigned rows, unsigned terms, gathered<Transposed> const& b,
                           unsigned columns, unsigned first_row, unsigned first_column)
      : a_(reinterpret_cast<char const*>(a.a)),
        a_stride_(a.stride * 4),
        last_row_(rows - 1),
        terms_(terms),
        weight_(reinterpret_cast<char const*>(b.weight)),
        stride_(b.stride * 4),
        list_(Transposed ? b.columns : b.rows),
        row_(first_row + threadIdx.x / warp),
        lane_(threadIdx.x % warp) {
    if constexpr (Transposed) {  // lane i knows line i of this warp
      fixed_ = b.rows[min(first_column + threadIdx.x / warp + T::warps * min(lane_, T::b_lines - 1), columns - 1)];
    } else {
      fixed_ = b.columns[min(first_column + threadIdx.x / warp % T::groups * warp + lane_, columns - 1)];
    }
    read_indices(0);
  }

  /// The copies that follow are those of chain `step`, to `stage`.
  __device__ void begin(unsigned step, float* stage) {
    unsigned const term = step * T::depth + lane_, line = threadIdx.x / warp;
    wanted_ = step * T::depth < terms_;
    there_ = term < terms_;
    from_a_ = a_ + std::size_t{term} * 4;
    to_a_ = shared_byte(stage + line * T::terms_stride + lane_);
    float* const tile = stage + T::a_floats;
    if constexpr (Transposed) {
      from_b_ = weight_ + std::size_t{next_} * 4;
      to_b_ = shared_byte(tile + line * T::terms_stride + lane_);
    } else {
      from_b_ = weight_ + std::size_t{fixed_} * 4;
      index_ = next_;
      to_b_ = shared_byte(tile + line / T::groups * T::columns_stride + line % T::groups * warp + lane_);
    }
    read_indices(step + 1);
  }
  /// The copies of one slot of T::slots. All lanes of a warp come here together.
  __device__ void copy(unsigned slot) const {
#pragma unroll
    for (unsigned n = 0; n < T::a_lines / T::slots; ++n) {
      unsigned const i = slot * (T::a_lines / T::slots) + n;
      copy_float(to_a_ + T::warps * i * T::terms_stride * 4,
                 from_a_ + std::size_t{min(row_ + T::warps * i, last_row_)} * a_stride_, wanted_, there_);
    }
#pragma unroll
    for (unsigned n = 0; n < T::b_lines / T::slots; ++n) {
      unsigned const i = slot * (T::b_lines / T::slots) + n, term = threadIdx.x / warp / T::groups + terms_apart * i;
      unsigned const row = Transposed ? __shfl_sync(0xffffffffu, fixed_, static_cast<int>(i))
                                      : __shfl_sync(0xffffffffu, index_, static_cast<int>(term));
      copy_float(to_b_ + (Transposed ? T::warps * i * T::terms_stride : terms_apart * i * T::columns_stride) * 4,
                 from_b_ + std::size_t{row} * stride_, wanted_);
    }
  }

 private:
  static constexpr unsigned terms_apart = T::warps / T::groups;  // a warp copies every so many terms

  __device__ void read_indices(unsigned step) { next_ = list_[min(step * T::depth + lane_, terms_ - 1)]; }

  char const* a_;
  std::size_t a_stride_;  // bytes
  unsigned last_row_, terms_;
  char const* weight_;
  unsigned stride_;      // bytes
  index_t const* list_;  // of terms
  unsigned row_, lane_;
  index_t fixed_ = 0, index_ = 0, next_ = 0;
  bool wanted_ = false, there_ = false;
  char const* from_a_ = nullptr;
  char const* from_b_ = nullptr;
  unsigned to_a_ = 0, to_b_ = 0;
};

/// Terms 16 half + 4 (lane % 4) + 0..3 of a row or column: operands of two multiplications, two terms of each.
struct four_terms final {
  float of[4];
};
__device__ inline four_terms read_terms(float const* line, unsigned half) {
  float4 const x = *reinterpret_cast<float4 const*>(line + half * 16 + threadIdx.x % 4 * 4);
  return {{x.x, x.y, x.z, x.w}};
}

template <class T, bool Transposed>
__global__ void __launch_bounds__(T::threads, T::blocks)
    tensor_product_kernel(plain_rows a, unsigned rows, unsigned terms, gathered<Transposed> b, unsigned columns,
                          float* c, std::size_t c_stride, bool overwrite) {
  extern __shared__ float4 tensor_shared[];
  float* const shared = reinterpret_cast<float*>(tensor_shared);
  unsigned const in_warp = threadIdx.x % warp, group = in_warp / 4, member = in_warp % 4;
  unsigned const warp_row = threadIdx.x / warp / T::across * T::warp_rows;
  unsigned const warp_column = threadIdx.x / warp % T::across * T::warp_columns;
  unsigned const first_row = blockIdx.y * T::rows, first_column = blockIdx.x * T::columns;

  float sum[T::parts][T::down_part][T::across_part][4];
  // where element e of a fragment lies in C
  auto const row_of = [&](unsigned part, unsigned m, unsigned e) {
    return first_row + warp_row + (part * T::down_part + m) * 16 + dealt(group) + e / 2 * 8;
  };
  auto const column_of = [&](unsigned n, unsigned e) {
    unsigned const place = member * 2 + e % 2;
    return first_column + warp_column + n * 8 + (Transposed ? dealt(place) : place);
  };
  auto const for_elements = [&](auto&& f) {
#pragma unroll
    for (unsigned part = 0; part < T::parts; ++part) {
#pragma unroll
      for (unsigned m = 0; m < T::down_part; ++m) {
#pragma unroll
        for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
          for (unsigned e = 0; e < 4; ++e) f(sum[part][m][n][e], row_of(part, m, e), column_of(n, e));
        }
      }
    }
  };
  for_elements([&](float& value, unsigned r, unsigned column) {
    value = !overwrite && r < rows && column < columns ? c[r * c_stride + column] : 0.0f;
  });

  unsigned const steps = (terms + T::depth - 1) / T::depth;
  if (steps > 0) {
    tensor_source<T, Transposed> source(a, rows, terms, b, columns, first_row, first_column);
#pragma unroll
    for (unsigned s = 0; s + 1 < T::stages; ++s) {
      source.begin(s, shared + s * T::stage_floats);
#pragma unroll
      for (unsigned slot = 0; slot < T::slots; ++slot) source.copy(slot);
      end_copies();
    }
    unsigned stage = 0;
#pragma unroll 1
    for (unsigned step = 0; step < steps; ++step) {
      await_copies<T::stages - 2>();
      __syncthreads();
      source.begin(step + T::stages - 1, shared + (stage == 0 ? T::stages - 1 : stage - 1) * T::stage_floats);
      float const* const tile_a = shared + stage * T::stage_floats;
      float const* const tile_b = tile_a + T::a_floats;
      stage = stage + 1 == T::stages ? 0 : stage + 1;
#pragma unroll
      for (unsigned part = 0; part < T::parts; ++part) {
        unsigned large_a[4][T::down_part][4], large_b[4][T::across_part][2];
        float chain[T::down_part][T::across_part][4] = {};
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
          four_terms x[T::down_part][2], y[T::across_part];
#pragma unroll
          for (unsigned m = 0; m < T::down_part; ++m) {
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
              unsigned const line = warp_row + (part * T::down_part + m) * 16 + dealt(group) + i * 8;
              x[m][i] = read_terms(tile_a + line * T::terms_stride, half);
            }
          }
#pragma unroll
          for (unsigned n = 0; n < T::across_part; ++n) {
            if constexpr (Transposed) {
              y[n] = read_terms(tile_b + (warp_column + n * 8 + dealt(group)) * T::terms_stride, half);
            } else {
#pragma unroll
              for (unsigned i = 0; i < 4; ++i) {
                y[n].of[i] = tile_b[(half * 16 + member * 4 + i) * T::columns_stride + warp_column + n * 8 + group];
              }
            }
          }
#pragma unroll
          for (unsigned s = 0; s < 2; ++s) {
            unsigned const k = half * 2 + s;
            unsigned small_a[T::down_part][4], small_b[T::across_part][2];
#pragma unroll
            for (unsigned m = 0; m < T::down_part; ++m) {
#pragma unroll
              for (unsigned e = 0; e < 4; ++e) {  // rows g and g + 8 of term t, then of term t + 4
                tf32_pair const pair = split(x[m][e % 2].of[s * 2 + e / 2]);
                large_a[k][m][e] = pair.large, small_a[m][e] = pair.small;
              }
            }
#pragma unroll
            for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
              for (unsigned e = 0; e < 2; ++e) {
                tf32_pair const pair = split(y[n].of[s * 2 + e]);
                large_b[k][n][e] = pair.large, small_b[n][e] = pair.small;
              }
            }
            source.copy(part * 4 + k);
#pragma unroll
            for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
              for (unsigned m = 0; m < T::down_part; ++m) {
                multiply(chain[m][n], small_a[m], large_b[k][n], chain[m][n]);
              }
            }
#pragma unroll
            for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
              for (unsigned m = 0; m < T::down_part; ++m) {
                multiply(chain[m][n], large_a[k][m], small_b[n], chain[m][n]);
              }
            }
          }
        }
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
#pragma unroll
          for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
            for (unsigned m = 0; m < T::down_part; ++m) {
              multiply(chain[m][n], large_a[k][m], large_b[k][n], chain[m][n]);
            }
          }
        }
#pragma unroll
        for (unsigned m = 0; m < T::down_part; ++m) {
#pragma unroll
          for (unsigned n = 0; n < T::across_part; ++n) {
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) sum[part][m][n][e] = __fadd_rn(sum[part][m][n][e], chain[m][n][e]);
          }
        }
      }
      end_copies();
    }
  }
  for_elements([&](float& value, unsigned r, unsigned column) {
    if (r < rows && column < columns) c[r * c_stride + column] = value;
  });
}

template <class T, bool Transposed>
void launch_tensor_product(cudaStream_t stream, plain_rows const& a, std::size_t rows, std::size_t terms,
                           gathered<Transposed> const& b, std::size_t columns, float* c, std::size_t c_stride,
                           bool overwrite) {
  allow_shared(tensor_product_kernel<T, Transposed>, T::bytes);
  dim3 const grid(blocks_for(columns, T::columns), blocks_for(rows, T::rows));
  tensor_product_kernel<T, Transposed>
      <<<grid, T::threads, T::bytes, stream>>>(a, static_cast<unsigned>(rows), static_cast<unsigned>(terms), b,
                                               static_cast<unsigned>(columns), c, c_stride, overwrite);
  check_launch("product on tensor cores");
}

/// As product(); B finite. NaN or infinity in a row of A makes NaN of the
/// whole row of C, and so may a number above 2^127 in A or B.
/// Cost: 2 rows terms columns FLOP, three times that on tensor cores. `processors`: of the device.
template <bool Transposed>
void tensor_product(cudaStream_t stream, std::size_t processors, plain_rows const& a, std::size_t rows,
                    std::size_t terms, gathered<Transposed> const& b, std::size_t columns, float* c,
                    std::size_t c_stride, bool overwrite) {
  if (rows == 0 || columns == 0) return;
  constexpr std::size_t most = std::size_t{1} << 30;  // offsets inside a row are counted in bytes, in 32 bits
  expect(std::max<std::size_t>(terms, b.stride) < most,
         "a product on tensor cores takes rows of less than 2^30 numbers");
  // Waves of blocks, times how long a block takes: measured on an H100. All tiles give the same bits.
  auto const time = [&](std::size_t extent, std::size_t together, double each) {
    std::size_t const tiles = ((rows + extent - 1) / extent) * ((columns + extent - 1) / extent);
    return each * static_cast<double>((tiles + processors * together - 1) / (processors * together));
  };
  double const large = time(128, 1, 1), middle = time(64, 2, 0.53), small = time(32, 4, 0.5);
  if (large <= middle && large <= small) {
    launch_tensor_product<large_tensor_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  } else if (middle <= small) {
    launch_tensor_product<middle_tensor_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  } else {
    launch_tensor_product<small_tensor_tile>(stream, a, rows, terms, b, columns, c, c_stride, overwrite);
  }
}

}  // namespace hull::cuda
