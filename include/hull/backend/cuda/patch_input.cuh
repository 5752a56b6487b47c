// SPDX-License-Identifier: Apache-2.0
// The last step of rows that are patches, in one kernel: relax while reading, multiply, add up what overlaps, and sum
// |A| reach. Coefficients of the input are never stored, and those of the last stage are read once.
//
// The input has few channels, so here every position is multiplied with all taps and channels of its filters
// [positions, source channels] x [source channels, columns], and a target adds the products of the positions that reach
// it. A term meets no more roundings than conv_roundings counts, if source channels are a multiple of 32: for t chains
// and k taps it is 32 + 1, then t - 1 and k - 1 additions, and conv_roundings has k t - 1 for these.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/conv_patch.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/patch_product.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>

namespace hull::cuda {

/// A block takes some rows with all their positions; a thread multiplies two positions, 32 source channels at a time.
struct input_tile final {
  static constexpr int threads = 128, warps = threads / 32, positions = patch_sum_positions;
  static constexpr int columns = patch_sum_columns, depth = static_cast<int>(chain_terms), rows = 32;
  static constexpr int pitch = depth + 4;         // of a position: 8 positions in a row meet all banks once
  static constexpr int sent_pitch = columns + 1;  // of its products, which take the same place
  static_assert(positions == 2 * threads && columns % 4 == 0 && depth == 32);
};

template <bool Outward>
__global__ void __launch_bounds__(input_tile::threads)
    patch_input_kernel(patch_step step, row_block rows, unsigned rows_per_block, stage_state y, double y_share,
                       patch_line const* __restrict__ lines, float const* __restrict__ weight,
                       float const* __restrict__ a, stage_state input, double input_share) {
  using T = input_tile;
  __shared__ __align__(16) float tile[T::positions * T::pitch];
  __shared__ __align__(16) float filter[T::depth * T::columns];
  __shared__ double partial[T::rows][T::warps][3];

  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32, line = thread / 32;
  int const positions = step.from.positions(), channels = step.from.channels, pitch = step.from.pitch();
  int const area = step.conv.down.kernel * step.conv.across.kernel, columns = step.to.channels * area;
  std::size_t const first_row = std::size_t{blockIdx.x} * rows_per_block;
  int const count = static_cast<int>(min(std::size_t{rows_per_block}, rows.count - first_row));

  float sum[2][T::columns];
#pragma unroll
  for (int j = 0; j < T::columns; ++j) sum[0][j] = sum[1][j] = 0;
  for (int first = 0; first < channels; first += T::depth) {
    __syncthreads();  // the last channels have been multiplied
    for (int i = thread; i < T::depth * T::columns; i += T::threads) {
      int const o = first + i / T::columns, column = i % T::columns;
      filter[i] = column < columns ? weight[o * columns + column] : 0.0f;
    }
    // Relax: a lane has a channel, a warp every fourth position; the order of a row's sums is that of its own
    // positions.
    for (int n = 0; n < count; ++n) {
      std::size_t const r = first_row + static_cast<std::size_t>(n);
      patch_place const where = place_of(step.from, rows.index[r]);
      patch_line const* const of_box =
          lines + 2 * rows.box[r] * static_cast<std::size_t>(step.from.plane()) * static_cast<std::size_t>(pitch);
      float const* const row = a + r * step.from.floats() + first + lane;
      double sums[3] = {};         // value, slack, far value
      constexpr int together = 8;  // reads that are on the way at once
      for (int p = line; p < positions; p += together * T::warps) {
        float x[together];
        patch_line side[together];
#pragma unroll
        for (int k = 0; k < together; ++k) {
          int const at = p + k * T::warps;
          x[k] = at < positions ? __ldg(row + at * pitch) : 0.0f;
        }
#pragma unroll
        for (int k = 0; k < together; ++k) {
          int const at = p + k * T::warps;
          int const u = static_cast<int>(step.from.by_width.quotient(static_cast<unsigned>(at)));
          int const i = where.top + u, j = where.left + at - u * step.from.across.extent;
          side[k] = {0, 0, 0, -1};
          if (at < positions && step.from.down.inside(i) && step.from.across.inside(j)) {
            std::size_t const element =
                static_cast<std::size_t>(i * step.from.across.length + j) * static_cast<std::size_t>(pitch);
            float4 const four = __ldg(reinterpret_cast<float4 const*>(
                of_box + 2 * (element + static_cast<std::size_t>(first + lane)) + (x[k] >= 0 ? 0 : 1)));
            side[k] = {four.x, four.y, four.z, four.w};
          }
        }
#pragma unroll
        for (int k = 0; k < together; ++k) {
          int const at = p + k * T::warps;
          bool const dead = side[k].error < 0;  // false for NaN, which is an error
          if (at < positions) tile[(n * positions + at) * T::pitch + lane] = dead ? 0.0f : x[k] * side[k].slope;
          if (dead) continue;
          double const value = x[k];
          sums[0] += value * static_cast<double>(side[k].shift);  // exact product
          if constexpr (Outward) sums[1] += std::fabs(value) * static_cast<double>(side[k].error);
          sums[2] += value * static_cast<double>(side[k].far);
        }
      }
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        double const all = warp_sum(sums[k]);
        if (lane == 0) partial[n][line][k] = first == 0 ? all : partial[n][line][k] + all;
      }
    }
    __syncthreads();
    float part[2][T::columns];
#pragma unroll
    for (int j = 0; j < T::columns; ++j) part[0][j] = part[1][j] = 0;
#pragma unroll 2
    for (int k = 0; k < T::depth; k += 4) {
      float x[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float4 const four = *reinterpret_cast<float4 const*>(tile + (thread + i * T::threads) * T::pitch + k);
        x[i][0] = four.x, x[i][1] = four.y, x[i][2] = four.z, x[i][3] = four.w;
      }
#pragma unroll
      for (int d = 0; d < 4; ++d) {
#pragma unroll
        for (int j = 0; j < T::columns; j += 4) {
          float4 const four = *reinterpret_cast<float4 const*>(filter + (k + d) * T::columns + j);
          float const b[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            part[0][j + m] = __fmaf_rn(x[0][d], b[m], part[0][j + m]);
            part[1][j + m] = __fmaf_rn(x[1][d], b[m], part[1][j + m]);
          }
        }
      }
    }
#pragma unroll
    for (int j = 0; j < T::columns; ++j) {
      sum[0][j] = __fadd_rn(sum[0][j], part[0][j]);
      sum[1][j] = __fadd_rn(sum[1][j], part[1][j]);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < T::columns; ++j) tile[(thread + i * T::threads) * T::sent_pitch + j] = sum[i][j];
  }
  __syncthreads();

  // A warp ends a row. Taps are added in the order of the filter.
  conv_axis const& down = step.conv.down;
  conv_axis const& across = step.conv.across;
  for (int n = line; n < count; n += T::warps) {
    std::size_t const r = first_row + static_cast<std::size_t>(n);
    patch_place const where = place_of(step.to, rows.index[r]);
    float const* const reach = input.reach + rows.box[r] * input.live_count;
    double distance = 0;
    for (int e = lane; e < step.to.positions(); e += 32) {
      int const u = static_cast<int>(step.to.by_width.quotient(static_cast<unsigned>(e)));
      int const v = e - u * step.to.across.extent, i = where.top + u, j = where.left + v;
      if (!step.to.down.inside(i) || !step.to.across.inside(j)) continue;
      for (int c = 0; c < step.to.channels; ++c) {
        index_t const slot = __ldg(input.slot + c * step.to.plane() + i * step.to.across.length + j);
        if (slot == stage_state::dead) continue;
        float coefficient = 0;
        for (int p = 0; p < down.kernel; ++p) {
          int const from_u = patch_source(down, u, p, step.from.down.extent);
          if (from_u < 0) continue;
          for (int q = 0; q < across.kernel; ++q) {
            int const from_v = patch_source(across, v, q, step.from.across.extent);
            if (from_v < 0) continue;
            int const position = n * positions + from_u * step.from.across.extent + from_v;
            coefficient = __fadd_rn(coefficient, tile[position * T::sent_pitch + c * area + p * across.kernel + q]);
          }
        }
        distance += static_cast<double>(std::fabs(coefficient)) * static_cast<double>(__ldg(reach + slot));
      }
    }
    distance = warp_sum(distance);
    if (lane != 0) continue;
    double sums[3] = {};
    for (int k = 0; k < 3; ++k) {
      for (int w = 0; w < T::warps; ++w) sums[k] += partial[n][w][k];
    }
    add_constants<Outward>(rows, r, y, y_share, sums[0], sums[1], sums[2]);
    end_row<Outward>(rows, r, input, input_share, distance);
  }
}

/// Rows from the output of the stage that reads the input to their bounds. `weight` as it was loaded. Cost: 2 * rows *
/// positions * source channels * 28 FLOP.
template <class R>
void patch_input(cudaStream_t stream, patch_step const& step, float const* weight, row_block const& rows,
                 stage_state const& y, patch_line const* lines, float const* a, stage_state const& input) {
  int const fit = input_tile::positions / step.from.positions();
  unsigned const each = static_cast<unsigned>(std::min(input_tile::rows, fit));
  patch_input_kernel<R::outward><<<blocks_for(rows.count, each), input_tile::threads, 0, stream>>>(
      step, rows, each, y, 1 + gamma_sum(y.live_count), lines, weight, a, input, 1 + gamma_sum(input.live_count));
  check_launch("patch_input");
}

}  // namespace hull::cuda
