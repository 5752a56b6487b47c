// SPDX-License-Identifier: Apache-2.0
// Between the head and the output of a stage: lines and live columns, and the step that takes rows from one to the
// other.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/forward.cuh>
#include <hull/backend/cuda/product_cost.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/backend/lines.hpp>

namespace hull::cuda {

/// Lines of every element of every box.
template <class S, class R>
__global__ void lines_kernel(weights_view<typename S::net> weights, stage_state s, std::size_t batch) {
  std::size_t const number = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (number < batch * S::size) relax_element<S, R>(weights, s, number / S::size, number % S::size);
}

inline constexpr unsigned list_threads = 1024;  // of a block that walks a list alone

/// What a compaction adds up over the operands.
struct spreads_of final {
  double const* operand[8] = {};
  unsigned count = 0;
};

/// Sums over all columns of box b (spread) and over `count` live ones (reach), and the floor: what underflow can cost,
/// by A * slope and in the head's product.
template <bool Outward>
__device__ void set_totals(stage_state const& s, std::size_t b, unsigned count, double const (&sums)[2],
                           spreads_of const& x, product_cost const& cost) {
  s.total_spread[b] = sums[0];
  tensor_errors const& small = cost.on_tensor_cores;
  double spread = 0;
  for (unsigned i = 0; i < x.count; ++i) spread += x.operand[i][b];
  s.floor[b] =
      Outward ? (2 * float_floor + small.floor_of_weights) * sums[1] + small.product_floor * count * spread : 0;
}

/// Drops the columns that are zero for every box, and moves the others together; the work of one block. Returns the
/// number of live columns.
template <bool Outward, unsigned Threads>
__device__ unsigned compact_stage(stage_state const& s, std::size_t batch, spreads_of const& x,
                                  product_cost const& cost) {
  unsigned const n = static_cast<unsigned>(s.size);
  packer<Threads> places;
  for (unsigned first = 0; first < n; first += Threads) {
    unsigned const i = first + threadIdx.x;
    bool live = false;
    for (std::size_t b = 0; i < n && b < batch && !live; ++b) live = is_live(s, b * n + i);
    unsigned const place = places.place(live);
    if (i < n) s.slot[i] = live ? place : stage_state::dead;
    if (live) s.live[place] = i;
  }
  unsigned const count = places.count();
  __syncthreads();
  for (std::size_t b = 0; b < batch; ++b) {
    double sums[2] = {};
    for (unsigned i = threadIdx.x; i < n; i += Threads) sums[0] += s.spread[b * n + i];
    // in tiles: a place is never behind the element that moves there, so what was not read yet is not overwritten
    for (unsigned first = 0; first < count; first += Threads) {
      unsigned const c = first + threadIdx.x;
      std::size_t const from = b * n + (c < count ? s.live[c] : 0), to = b * count + c;
      float const radius = s.radius[from];
      float* const moved[] = {s.lower_slope, s.upper_slope, s.lower_shift, s.upper_shift, s.lower_far, s.upper_far};
      float value[6];
#pragma unroll
      for (unsigned v = 0; v < 6; ++v) value[v] = moved[v][from];
      __syncthreads();
      if (c < count) {
#pragma unroll
        for (unsigned v = 0; v < 6; ++v) moved[v][to] = value[v];
        s.reach[to] = radius;
        sums[1] += radius;
      }
    }
    block_sums<Threads>(sums);
    if (threadIdx.x == 0) set_totals<Outward>(s, b, count, sums, x, cost);
  }
  __syncthreads();
  return count;
}
template <bool Outward>
__global__ void compact_kernel(stage_state s, std::size_t batch, spreads_of x, product_cost cost, index_t* live_count) {
  unsigned const count = compact_stage<Outward, list_threads>(s, batch, x, cost);
  if (threadIdx.x == 0) *live_count = count;
}

// The same for a large stage and one box, a block for each tile of elements. Lines are computed twice, first to see
// what is live, then to where they belong: what one block writes then, no other reads.

inline constexpr unsigned tile_threads = 256;

/// What a tile has: live columns, and sums over them as set_totals wants them.
struct tile_totals final {
  double spread, reach;
  unsigned count;
};

template <class S, class R>
__global__ void __launch_bounds__(tile_threads)
    mark_live_kernel(weights_view<typename S::net> weights, stage_state s, tile_totals* tiles) {
  std::size_t const i = std::size_t{blockIdx.x} * tile_threads + threadIdx.x;
  bool live = false;
  if (i < S::size) {
    relax_element<S, R>(weights, s, 0, i);
    live = is_live(s, i);
    s.slot[i] = live ? 0 : stage_state::dead;
  }
  int const count = __syncthreads_count(live);
  if (threadIdx.x == 0) tiles[blockIdx.x].count = static_cast<unsigned>(count);
}
template <class S, class R>
__global__ void __launch_bounds__(tile_threads)
    move_live_kernel(weights_view<typename S::net> weights, stage_state s, tile_totals* tiles) {
  double before[1] = {};  // exact
  for (unsigned t = threadIdx.x; t < blockIdx.x; t += tile_threads) before[0] += tiles[t].count;
  block_sums<tile_threads>(before);
  unsigned const first = static_cast<unsigned>(*sums_of<1>());
  std::size_t const i = std::size_t{blockIdx.x} * tile_threads + threadIdx.x;
  bool const inside = i < S::size, live = inside && s.slot[i] != stage_state::dead;
  packer<tile_threads> places;
  unsigned const place = first + places.place(live);
  double sums[2] = {};
  if (inside) sums[0] = s.spread[i];
  if (live) {
    relax_element<S, R>(weights, s, 0, i, place);
    s.slot[i] = place;
    s.live[place] = static_cast<index_t>(i);
    s.reach[place] = s.radius[i];
    sums[1] = s.radius[i];
  }
  block_sums<tile_threads>(sums);
  if (threadIdx.x != 0) return;
  tiles[blockIdx.x].spread = sums[0];
  tiles[blockIdx.x].reach = sums[1];
}
template <bool Outward>
__global__ void __launch_bounds__(tile_threads)
    add_tiles_kernel(stage_state s, tile_totals const* tiles, unsigned number, spreads_of x, product_cost cost,
                     index_t* live_count) {
  double all[3] = {};
  for (unsigned t = threadIdx.x; t < number; t += tile_threads) {
    all[0] += tiles[t].spread;
    all[1] += tiles[t].reach;
    all[2] += tiles[t].count;
  }
  block_sums<tile_threads>(all);
  if (threadIdx.x != 0) return;
  unsigned const count = static_cast<unsigned>(all[2]);
  set_totals<Outward>(s, 0, count, {all[0], all[1]}, x, cost);
  *live_count = count;
}

/// Error of live column `at`, counted over all boxes.
template <bool Outward>
__device__ void set_error(stage_state const& s, std::size_t at, std::size_t live, spreads_of const& x,
                          product_cost const& cost) {
  if constexpr (!Outward) {
    s.error[at] = 0;
    return;
  }
  double const weight_error = cost.rounded ? 1.001 * unit_float : 0;
  s.error[at] = column_error(s, at, s.size, cost.relative(s.size, live, at % live), weight_error);
  if (!cost.tensor()) return;
  double const low = std::fabs(s.lower_slope[at]), high = std::fabs(s.upper_slope[at]);
  double const small = cost.on_tensor_cores.floor_of_a * x.operand[0][at / live] * (low < high ? high : low);
  s.error[at] = up::from_double(up::add(static_cast<double>(s.error[at]), 1.001 * small));
}
template <bool Outward>
__global__ void errors_kernel(stage_state s, std::size_t batch, index_t const* live_count, spreads_of x,
                              product_cost cost) {
  std::size_t const live = *live_count, at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at < batch * live) set_error<Outward>(s, at, live, x, cost);
}

/// All of it in one block, for small stages: time there is launches.
template <class S, class R, unsigned Threads>
__global__ void __launch_bounds__(Threads)
    small_relax_kernel(weights_view<typename S::net> weights, stage_state s, std::size_t batch, spreads_of x,
                       product_cost cost, index_t* live_count) {
  for (std::size_t at = threadIdx.x; at < batch * S::size; at += Threads) {
    relax_element<S, R>(weights, s, at / S::size, at % S::size);
  }
  __syncthreads();
  std::size_t const live = compact_stage<R::outward, Threads>(s, batch, x, cost);
  for (std::size_t at = threadIdx.x; at < batch * live; at += Threads) set_error<R::outward>(s, at, live, x, cost);
  if (threadIdx.x == 0) *live_count = static_cast<index_t>(live);
}

/// Lines, output interval and live columns of stage S from the bounds of its head. The number of live columns goes to
/// `live_count`, on the device.
template <class S, class R>
void relax_stage(device const& on, weights_view<typename S::net> weights, operands<S, stage_state const*> const& x,
                 stage_state const& s, std::size_t batch, product_cost const& cost, index_t* live_count) {
  constexpr unsigned threads = 128;
  cudaStream_t const stream = on.stream();
  static_assert(S::input_count <= 8, "hull: a stage on CUDA reads 8 others at most");
  unsigned const blocks = blocks_for(batch * S::size, threads);
  spreads_of spreads;
  for (stage_state const* one : x) spreads.operand[spreads.count++] = one->total_spread;
  if constexpr (S::size <= 1024) {
    if (batch == 1) {
      small_relax_kernel<S, R, 256><<<1, 256, 0, stream>>>(weights, s, batch, spreads, cost, live_count);
      check_launch("relax_stage");
      return;
    }
  }
  auto const set_errors = [&] {
    errors_kernel<R::outward><<<blocks, threads, 0, stream>>>(s, batch, live_count, spreads, cost);
    check_launch("relax_stage");
  };
  constexpr unsigned tiles = blocks_for(S::size, tile_threads);
  if constexpr (tiles > 16 && tiles * sizeof(tile_totals) <= device::mail_bytes) {
    if (batch == 1) {
      auto* const totals = reinterpret_cast<tile_totals*>(on.mail());
      mark_live_kernel<S, R><<<tiles, tile_threads, 0, stream>>>(weights, s, totals);
      move_live_kernel<S, R><<<tiles, tile_threads, 0, stream>>>(weights, s, totals);
      add_tiles_kernel<R::outward><<<1, tile_threads, 0, stream>>>(s, totals, tiles, spreads, cost, live_count);
      return set_errors();
    }
  }
  lines_kernel<S, R><<<blocks, threads, 0, stream>>>(weights, s, batch);
  compact_kernel<R::outward><<<1, list_threads, 0, stream>>>(s, batch, spreads, cost, live_count);
  set_errors();
}

inline constexpr unsigned row_threads = 128;

/// Adds what one stage gives to the constants of row r: sums over its live columns of the shifts, the errors, and the
/// far shifts. `share`: 1 + the relative error of such a sum. Returns the row's slack.
template <bool Outward>
__device__ inline double add_constants(row_block const& rows, std::size_t r, stage_state const& s, double share,
                                       double shifts, double errors, double far_shifts) {
  bool const far = rows.far_value != nullptr;
  double const value = rows.value[r] + shifts, far_value = far ? rows.far_value[r] + far_shifts : value;
  rows.value[r] = value;
  if (far) rows.far_value[r] = far_value;
  if constexpr (!Outward) return 0;
  double const size = std::fabs(value) < std::fabs(far_value) ? std::fabs(far_value) : std::fabs(value);
  // NaN in either must reach the slack
  double const magnitude = size + 0 * (std::fabs(value) + std::fabs(far_value));
  double const more = errors * share + s.floor[rows.box[r]] + 2 * unit_double * magnitude;
  double const slack = (rows.slack[r] + more) * (1 + 4 * unit_double);
  rows.slack[r] = slack;
  return slack;
}

/// Takes rows from the output of a stage to its head, `Rows` of them in a block: as cpu::relax_rows. From `a` to
/// `moved`, which may be the same. `counts`: adds the stage's constants. With several rows in a block all are of the
/// first box: its lines are read once for all.
template <bool Outward, bool Finish, unsigned Threads, unsigned Rows>
__global__ void __launch_bounds__(Threads)
    relax_rows_kernel(row_block rows, stage_state s, float const* a, float* moved, double share, bool counts) {
  std::size_t const first = std::size_t{blockIdx.x} * Rows, base = Rows > 1 ? 0 : rows.box[first] * s.live_count;
  unsigned const live = static_cast<unsigned>(s.live_count);
  unsigned const count = Rows > 1 ? static_cast<unsigned>(min(std::size_t{Rows}, rows.count - first)) : 1;
  float const* const from = a + first * live;
  float* const to = moved + first * live;
  bool const far = rows.far_value != nullptr;
  double sums[4 * Rows] = {};  // of each row: value, slack, far value, distance
#pragma unroll 2
  for (unsigned c = threadIdx.x; c < live; c += Threads) {
    // both sides are loaded before the sign is known: time is latency
    float x[Rows];
#pragma unroll
    for (unsigned i = 0; i < Rows; ++i) x[i] = i < count ? from[std::size_t{i} * live + c] : 0.0f;
    float const low = s.lower_slope[base + c], high = s.upper_slope[base + c];
    float const low_shift = s.lower_shift[base + c], high_shift = s.upper_shift[base + c];
    float const low_far = far ? s.lower_far[base + c] : 0, high_far = far ? s.upper_far[base + c] : 0;
    float const error = Outward ? s.error[base + c] : 0, reach = Finish ? s.reach[base + c] : 0;
#pragma unroll
    for (unsigned i = 0; i < Rows; ++i) {
      bool const positive = x[i] >= 0;
      float const head = x[i] * (positive ? low : high);
      double const exact = x[i];
      if (!Finish && i < count) to[std::size_t{i} * live + c] = head;
      sums[4 * i] += exact * static_cast<double>(positive ? low_shift : high_shift);  // exact product
      if constexpr (Outward) sums[4 * i + 1] += std::fabs(exact) * static_cast<double>(error);
      if (far) sums[4 * i + 2] += exact * static_cast<double>(positive ? low_far : high_far);
      if constexpr (Finish) sums[4 * i + 3] += std::fabs(static_cast<double>(head)) * static_cast<double>(reach);
    }
  }
  block_sums<Threads>(sums);
  if (threadIdx.x >= count || !counts) return;
  std::size_t const r = first + threadIdx.x;
  double const* const own = sums_of<4 * Rows>() + 4 * threadIdx.x;
  double const slack = add_constants<Outward>(rows, r, s, share, own[0], own[1], own[2]);
  if constexpr (!Finish) return;
  double const distance = Outward ? up::add(own[3] * share, slack) : own[3];
  rows.bound[r] = Outward ? down::sub(rows.value[r], distance) : rows.value[r] - distance;
  if (far) rows.far_bound[r] = Outward ? up::add(rows.far_value[r], distance) : rows.far_value[r] + distance;
}

/// `several`: rows may be of different boxes. `counts`: adds the stage's constants, as it must at the end.
template <class R, bool Finish>
void relax_rows(cudaStream_t stream, row_block const& rows, stage_state const& s, float const* a, float* moved,
                bool several, bool counts = true) {
  if (rows.count == 0) return;
  double const share = 1 + gamma_sum(s.live_count);
  auto const launch = [&]<unsigned Threads, unsigned Rows> {
    relax_rows_kernel<R::outward, Finish, Threads, Rows>
        <<<blocks_for(rows.count, Rows), Threads, 0, stream>>>(rows, s, a, moved, share, counts);
  };
  // the sums of a row depend on the number of threads, so that must not depend on the number of rows
  if (s.size <= 8192) {
    several ? launch.template operator()<256, 1>() : launch.template operator()<256, 4>();
  } else {
    several ? launch.template operator()<512, 1>() : launch.template operator()<512, 2>();
  }
  check_launch("relax_rows");
}

}  // namespace hull::cuda
