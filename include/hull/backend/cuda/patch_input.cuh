// SPDX-License-Identifier: Apache-2.0
// The last step of rows that are patches, in one kernel: relax while reading, multiply, add up what overlaps, and sum
// |A| reach. Coefficients of the input are never stored, and those of the last stage are read once.
//
// The input has few channels, so here every position is multiplied with all taps and channels of its filters
// [positions, source channels] x [source channels, columns], and a target adds the products of the positions that reach
// it. A term meets no more roundings than conv_roundings counts, if source channels are a multiple of 32: for t chains
// and k taps it is 32 + 1, then t - 1 and k - 1 additions, and conv_roundings has k t - 1 for these. With halfs a row
// has a scale for each 32 channels, so that these can be multiplied before the others are known.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include <hull/backend/cuda/conv_patch.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_tile_product.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/patch_product.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>

namespace hull::cuda {

/// A block takes some rows with all their positions, 32 source channels at a time.
struct any_input_tile {
  static constexpr int positions = patch_sum_positions, threads = positions, warps = threads / 32;
  static constexpr int columns = patch_sum_columns, depth = static_cast<int>(chain_terms), rows = 32;
  static constexpr int pitch = depth + 4;         // of a position: 8 positions in a row meet all banks once
  static constexpr int sent_pitch = columns + 1;  // of its products, which take the same place
  static constexpr int reads = 8, sides = 4;  // of positions, and of their lines, that a warp has on the way at once
  static constexpr int slots = 64;            // most pairs of a row and a warp that shares it
  static constexpr int lines = 512;           // most positions of all rows, as input_padded rounds them
  static_assert(columns % 4 == 0 && depth == 32 && reads % sides == 0);
};
/// Of floats: a thread multiplies one position.
struct input_tile final : any_input_tile {
  static constexpr bool halfs = false;
  static constexpr int blocks = 2, per_position = 1, per_column = columns, filter_floats = depth * columns;
};
/// Of pairs of halfs: a warp multiplies 32 positions (half_sums).
struct half_input_tile final : any_input_tile {
  static constexpr bool halfs = true;
  static constexpr int blocks = 3, per_position = 4, per_column = 8, per_channel = per_column;
  static constexpr int channels = 4 * per_channel;  // columns, with padding
  static constexpr int weight_pitch = channels * 4 + 8, filter_floats = depth / 4 * weight_pitch;
  static_assert(columns <= channels);
};

/// Warps of a block, a power of two, that share a row of `count` steps of one warp: so many that each has some, if
/// there are.
[[nodiscard]] HULL_FN constexpr int warps_of_row(int count) {
  int share = 1;
  while (share < any_input_tile::warps && share < count) share *= 2;
  return share;
}
/// Warps that relax a row of so many positions, for the order of a row's sums is a constant of the stages.
[[nodiscard]] HULL_FN constexpr int input_sharing(int positions) {
  return warps_of_row((positions + any_input_tile::reads - 1) / any_input_tile::reads);
}
/// Positions of a row, rounded up to what its warps read at once.
[[nodiscard]] HULL_FN constexpr int input_padded(int positions) {
  return padded(positions, any_input_tile::reads * input_sharing(positions));
}
/// Rows of a block.
[[nodiscard]] HULL_FN constexpr int input_rows(int positions) {
  using T = any_input_tile;
  return T::rows * positions < T::positions ? T::rows : T::positions / positions;
}
static_assert([] {
  for (int p = 1; p <= any_input_tile::positions; ++p) {
    if (input_rows(p) * input_sharing(p) > any_input_tile::slots) return false;
    if (input_rows(p) * input_padded(p) > any_input_tile::lines) return false;
  }
  return true;
}());

template <class T, bool Outward>
__global__ void __launch_bounds__(T::threads, T::blocks)
    patch_input_kernel(patch_step step, row_block rows, stage_state y, double y_share,
                       patch_line const* __restrict__ lines, float const* __restrict__ weight,
                       float const* __restrict__ a, stage_state input, double input_share) {
  __shared__ __align__(16) float tile[T::positions * T::pitch];
  __shared__ __align__(16) float filter[T::filter_floats];
  __shared__ double partial[T::slots][3];
  __shared__ unsigned largest[T::halfs ? T::slots : 1];
  // of each position of each row: where its lines are, in bytes from those of its box, or `outside` of the layer
  constexpr unsigned line_bytes = 2 * sizeof(patch_line), outside = 1;
  __shared__ unsigned line_at[T::lines];

  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32, line = thread / 32;
  int const positions = step.from.positions(), channels = step.from.channels, pitch = step.from.pitch();
  int const area = step.conv.down.kernel * step.conv.across.kernel, columns = step.to.channels * area;
  int const rows_per_block = input_rows(positions);
  std::size_t const first_row = blockIdx.x * static_cast<std::size_t>(rows_per_block);
  int const count = static_cast<int>(min(static_cast<std::size_t>(rows_per_block), rows.count - first_row));
  int const sharing = input_sharing(positions), part_of_row = line % sharing;

  int const padded_positions = input_padded(positions);
  for (int e = thread; e < count * padded_positions; e += T::threads) {
    int const n = e / padded_positions, p = e - n * padded_positions;
    patch_place const where = place_of(step.from, rows.index[first_row + static_cast<std::size_t>(n)]);
    int const u = static_cast<int>(step.from.by_width.quotient(static_cast<unsigned>(p)));
    int const i = where.top + u, j = where.left + p - u * step.from.across.extent;
    bool const inside = p < positions && step.from.down.inside(i) && step.from.across.inside(j);
    line_at[e] = inside ? line_bytes * static_cast<unsigned>((i * step.from.across.length + j) * pitch) : outside;
  }

  float sum[T::per_position][T::per_column];
#pragma unroll
  for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
    for (int j = 0; j < T::per_column; ++j) sum[i][j] = 0;
  }
  for (int first = 0; first < channels; first += T::depth) {
    __syncthreads();  // line_at has been written, the last channels have been multiplied
    if constexpr (T::halfs) {
      for (int i = thread; i < T::depth / 4 * T::channels; i += T::threads) {
        int const quad = i / T::channels, column = i % T::channels;
        float x[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          x[k] = column < columns ? weight[(first + quad * 4 + k) * columns + column] : 0.0f;
        }
        reinterpret_cast<uint4*>(filter + quad * T::weight_pitch)[column] = split_weights(x, step.weight_scale);
      }
    } else {
      for (int i = thread; i < T::depth * T::columns; i += T::threads) {
        int const o = first + i / T::columns, column = i % T::columns;
        filter[i] = column < columns ? weight[o * columns + column] : 0.0f;
      }
    }
    // Relax: a lane has a channel, a warp every so many positions; the order of a row's sums is that of its own
    // positions.
    for (int n = line / sharing; n < count; n += T::warps / sharing) {
      std::size_t const r = first_row + static_cast<std::size_t>(n);
      patch_line const* const of_box =
          lines + 2 * rows.box[r] * static_cast<std::size_t>(step.from.plane()) * static_cast<std::size_t>(pitch);
      char const* const of_lane = reinterpret_cast<char const*>(of_box + 2 * (first + lane));
      float const* const row = a + r * step.from.floats() + first + lane;
      unsigned const* const line_of = line_at + n * padded_positions;
      relaxed_sums<Outward, T::halfs> sums;
      for (int p = part_of_row; p < positions; p += T::reads * sharing) {
        // No branches: what is read in place of a position that is not there is not used.
        float x[T::reads];
#pragma unroll
        for (int k = 0; k < T::reads; ++k) x[k] = __ldg(row + min(p + k * sharing, positions - 1) * pitch);
#pragma unroll
        for (int ahead = 0; ahead < T::reads; ahead += T::sides) {
          patch_line side[T::sides];
#pragma unroll
          for (int k = 0; k < T::sides; ++k) {
            unsigned const at = line_of[p + (ahead + k) * sharing];
            unsigned const place = (at & ~outside) + (x[ahead + k] >= 0 ? 0U : line_bytes / 2);
            float4 const four = __ldg(reinterpret_cast<float4 const*>(of_lane + place));
            side[k] = {four.x, four.y, four.z, at == outside ? -1.0f : four.w};
          }
#pragma unroll
          for (int k = 0; k < T::sides; ++k) {
            int const at = p + (ahead + k) * sharing;
            float const moved = sums.take(side[k], x[ahead + k]);
            if (at < positions) tile[(n * positions + at) * T::pitch + lane] = moved;
          }
        }
      }
      int const slot = n * sharing + part_of_row;
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        double const all = warp_sum(sums.of[k]);
        if (lane == 0) partial[slot][k] = first == 0 ? all : partial[slot][k] + all;
      }
      if constexpr (T::halfs) {
        unsigned const most = __reduce_max_sync(~0U, sums.largest);
        if (lane == 0) largest[slot] = most;
      }
    }
    __syncthreads();
    if constexpr (T::halfs) {
      float scale[T::per_position];
      half_unscale back[T::per_position];
#pragma unroll
      for (int i = 0; i < T::per_position; ++i) {
        int const n = min(half_chain<T>::position(thread, i) / positions, count - 1);
        unsigned most = 0;
        for (int w = 0; w < sharing; ++w) most = max(most, largest[n * sharing + w]);
        scale[i] = scale_of(__uint_as_float(most));
        back[i] = half_unscale(scale[i], step.weight_scale);
      }
      half_chain<T>::template multiply<2>(thread, tile, filter, scale,
                                          [&](int i, int j, float x) { sum[i][j] = __fadd_rn(sum[i][j], back[i](x)); });
    } else {
      float part[T::columns] = {};
#pragma unroll 2
      for (int k = 0; k < T::depth; k += 4) {
        float4 const four = *reinterpret_cast<float4 const*>(tile + thread * T::pitch + k);
        float const x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int d = 0; d < 4; ++d) {
#pragma unroll
          for (int j = 0; j < T::columns; j += 4) {
            float4 const b = *reinterpret_cast<float4 const*>(filter + (k + d) * T::columns + j);
            part[j] = __fmaf_rn(x[d], b.x, part[j]), part[j + 1] = __fmaf_rn(x[d], b.y, part[j + 1]);
            part[j + 2] = __fmaf_rn(x[d], b.z, part[j + 2]), part[j + 3] = __fmaf_rn(x[d], b.w, part[j + 3]);
          }
        }
      }
#pragma unroll
      for (int j = 0; j < T::columns; ++j) sum[0][j] = __fadd_rn(sum[0][j], part[j]);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < T::per_position; ++i) {
#pragma unroll
    for (int j = 0; j < T::per_column; ++j) {
      if constexpr (T::halfs) {
        int const column = half_chain<T>::column(thread, j);
        if (column < T::columns) tile[half_chain<T>::position(thread, i) * T::sent_pitch + column] = sum[i][j];
      } else {
        tile[thread * T::sent_pitch + j] = sum[i][j];
      }
    }
  }
  __syncthreads();

  // A warp, or several, end a row. Taps are added in the order of the filter.
  conv_axis const& down = step.conv.down;
  conv_axis const& across = step.conv.across;
  int const ending = warps_of_row((step.to.positions() + 31) / 32);
  int const part_of_end = line % ending;
  auto* const distances = reinterpret_cast<double*>(filter);  // [row][warp that shares it]
  static_assert(sizeof(filter) >= sizeof(double) * T::rows * T::warps);
  for (int n = line / ending; n < count; n += T::warps / ending) {
    std::size_t const r = first_row + static_cast<std::size_t>(n);
    patch_place const where = place_of(step.to, rows.index[r]);
    float const* const reach = input.reach + rows.box[r] * input.live_count;
    double distance = 0;
    for (int e = part_of_end * 32 + lane; e < step.to.positions(); e += ending * 32) {
      int const u = static_cast<int>(step.to.by_width.quotient(static_cast<unsigned>(e)));
      int const v = e - u * step.to.across.extent, i = where.top + u, j = where.left + v;
      if (!step.to.down.inside(i) || !step.to.across.inside(j)) continue;
      constexpr int together = 4;  // channels, for each tap that has been found
      for (int first = 0; first < step.to.channels; first += together) {
        float coefficient[together] = {};
        for (int p = 0; p < down.kernel; ++p) {
          int const from_u = patch_source(down, step.by_down, u, p, step.from.down.extent);
          if (from_u < 0) continue;
          for (int q = 0; q < across.kernel; ++q) {
            int const from_v = patch_source(across, step.by_across, v, q, step.from.across.extent);
            if (from_v < 0) continue;
            int const position = n * positions + from_u * step.from.across.extent + from_v;
            float const* const sent = tile + position * T::sent_pitch + first * area + p * across.kernel + q;
#pragma unroll
            for (int c = 0; c < together; ++c) {
              if (first + c < step.to.channels) coefficient[c] = __fadd_rn(coefficient[c], sent[c * area]);
            }
          }
        }
#pragma unroll
        for (int c = 0; c < together; ++c) {
          if (first + c >= step.to.channels) break;
          index_t const slot = __ldg(input.slot + (first + c) * step.to.plane() + i * step.to.across.length + j);
          if (slot == stage_state::dead) continue;
          distance += static_cast<double>(std::fabs(coefficient[c])) * static_cast<double>(__ldg(reach + slot));
        }
      }
    }
    distance = warp_sum(distance);
    if (lane == 0) distances[n * ending + part_of_end] = distance;
  }
  __syncthreads();
  if (thread >= count) return;
  std::size_t const r = first_row + static_cast<std::size_t>(thread);
  double sums[3] = {}, distance = 0;
  for (int k = 0; k < 3; ++k) {
    for (int w = 0; w < sharing; ++w) sums[k] += partial[thread * sharing + w][k];
  }
  for (int w = 0; w < ending; ++w) distance += distances[thread * ending + w];
  add_constants<Outward>(rows, r, y, y_share, sums[0], sums[1], sums[2]);
  end_row<Outward>(rows, r, input, input_share, distance);
}

/// Rows from the output of the stage that reads the input to their bounds. `weight` as it was loaded. Cost: 2 * rows *
/// positions * source channels * 28 FLOP.
template <class R, conv_numbers Numbers>
void patch_input(cudaStream_t stream, patch_step const& step, float const* weight, row_block const& rows,
                 stage_state const& y, patch_line const* lines, float const* a, stage_state const& input) {
  using tile = std::conditional_t<Numbers == conv_numbers::halfs, half_input_tile, input_tile>;
  int const positions = step.from.positions();
  patch_input_kernel<tile, R::outward>
      <<<blocks_for(rows.count, static_cast<unsigned>(input_rows(positions))), tile::threads, 0, stream>>>(
          step, rows, y, 1 + gamma_sum(y.live_count), lines, weight, a, input, 1 + gamma_sum(input.live_count));
  check_launch("patch_input");
}

}  // namespace hull::cuda
