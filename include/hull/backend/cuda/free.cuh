// SPDX-License-Identifier: Apache-2.0
// Free columns of a stage, and the steps of rows with parameters of their own. What the steps compute, and why it is
// sound, is said in backend/cpu/alpha.hpp; a row is one block here.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/forward.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/backend/free_lines.hpp>
#include <hull/backend/free_rows.hpp>

namespace hull::cuda {

/// Lines of every live column; those of a free column stay at its own number until they are moved together.
template <class S, class R>
__global__ void free_lines_kernel(weights_view<typename S::net> weights, stage_state s, free_columns f,
                                  double product_error, double operand_floor, double const* spread, double sum_error,
                                  head_bias head) {
  std::size_t const c = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= s.live_count) return;
  set_fixed<R>(s, f, c, sum_error);
  float const constant = head.bias == nullptr ? 0 : head.bias[s.live[c] / head.each];
  double const slope_floor = operand_floor > 0 ? operand_floor * *spread : 0;
  if (set_free<S, R>(weights, s, f, c, c, product_error, sum_error, constant, slope_floor)) clear_fixed(f, c);
}

/// Moves the free columns together, in one block. Their number goes to `count`.
static __global__ void collect_free_kernel(free_columns f, std::size_t live, index_t* count) {
  packer<list_threads> places;
  float* const moved[] = {f.zero.lower_slope,
                          f.zero.upper_slope,
                          f.zero.lower_shift,
                          f.zero.upper_shift,
                          f.one.lower_slope,
                          f.one.upper_slope,
                          f.one.lower_shift,
                          f.one.upper_shift,
                          f.above.lower_slope,
                          f.above.upper_slope,
                          f.above.lower_shift,
                          f.above.upper_shift,
                          f.below.lower_slope,
                          f.below.upper_slope,
                          f.below.lower_shift,
                          f.below.upper_shift,
                          f.kink.lower_slope,
                          f.kink.upper_slope,
                          f.kink.lower_shift,
                          f.kink.upper_shift,
                          f.start,
                          f.error,
                          f.split_error,
                          f.gap,
                          f.ratio,
                          f.bias};
  constexpr unsigned arrays = sizeof moved / sizeof moved[0];
  for (std::size_t first = 0; first < live; first += list_threads) {
    std::size_t const c = first + threadIdx.x;
    bool const free = c < live && f.mask[c] == 1;
    float value[arrays];
#pragma unroll
    for (unsigned v = 0; v < arrays; ++v) value[v] = free ? moved[v][c] : 0;
    unsigned const place = places.place(free);  // synchronises: all of the tile is read, and places are not behind
    if (!free) continue;
#pragma unroll
    for (unsigned v = 0; v < arrays; ++v) moved[v][place] = value[v];
    f.column[place] = static_cast<index_t>(c);
  }
  if (threadIdx.x == 0) *count = places.count();
}

template <class S, class R>
void find_free(cudaStream_t stream, weights_view<typename S::net> weights, stage_state const& s, free_columns const& f,
               stage_state const& x, product_cost const& cost, head_bias head, index_t* count) {
  constexpr unsigned threads = 128;
  free_lines_kernel<S, R><<<blocks_for(s.live_count, threads), threads, 0, stream>>>(
      weights, s, f, cost.relative(), cost.on_tensor_cores.floor_of_a, x.total_spread,
      gamma(4 * S::size + 256, unit_double), head);
  collect_free_kernel<<<1, list_threads, 0, stream>>>(f, s.live_count, count);
  check_launch("find_free");
}

/// Calls body(q, f) for the splits of row r in this stage; the threads of a block divide them.
template <class Body>
__device__ void for_splits(free_rows const& p, free_columns const& f, std::size_t r, Body&& body) {
  if (p.splits == 0) return;
  for (std::size_t q = r * p.splits + threadIdx.x; q < r * p.splits + p.split_count[r]; q += row_threads) {
    std::size_t const parameter = p.split_parameter[q];
    if (parameter >= f.offset && parameter < f.offset + f.count) body(q, parameter - f.offset);
  }
}

/// From the output (`a`, kept) to the head (`moved`), both [r, live], with the rows' own lines. `counts`: adds their
/// constants.
template <bool Outward>
__global__ void __launch_bounds__(row_threads)
    relax_free_rows_kernel(row_block rows, stage_state s, free_columns f, free_rows p, float* a, float* moved,
                           bool counts) {
  std::size_t const r = blockIdx.x, live = s.live_count;
  float* const row = a + r * live;
  float* const out = moved + r * live;
  float const* const alpha = p.alpha + r * p.width + f.offset;
  for_splits(p, f, r, [&](std::size_t q, std::size_t i) {  // their lines depend on the split alone
    p.held[q] = row[f.column[i]];
    row[f.column[i]] = 0;
  });
  __syncthreads();
  double sums[2] = {};  // value, slack
  for (std::size_t c = threadIdx.x; c < live; c += row_threads) {
    float const x = row[c];
    bool const positive = x >= 0;
    out[c] = x * (positive ? f.fixed.lower_slope[c] : f.fixed.upper_slope[c]);
    float const shift = positive ? f.fixed.lower_shift[c] : f.fixed.upper_shift[c];
    sums[0] += static_cast<double>(x) * static_cast<double>(shift);
    if constexpr (Outward) sums[1] += static_cast<double>(std::fabs(x)) * static_cast<double>(f.fixed_error[c]);
  }
  __syncthreads();
  for (std::size_t i = threadIdx.x; i < f.count; i += row_threads) {
    float const x = row[f.column[i]];
    free_side const line = side_of(f, x >= 0);
    out[f.column[i]] = x * line.slope(i, alpha[i]);
    sums[0] += static_cast<double>(x) * line.shift(i, alpha[i]);
    if constexpr (Outward) sums[1] += static_cast<double>(std::fabs(x)) * static_cast<double>(f.error[i]);
  }
  __syncthreads();
  for_splits(p, f, r, [&](std::size_t q, std::size_t i) {
    float const x = p.held[q];
    line_arrays const& lines = p.split_sign[q] > 0 ? f.above : f.below;
    auto const constraint = constraint_of(f, i, p.split_sign[q]);
    if (p.beta[q] < 0) p.beta[q] = first_beta(f, i, x, alpha[i], lines, constraint);
    float const beta = p.beta[q];
    std::size_t const c = f.column[i];
    row[c] = x;
    out[c] = x * (x >= 0 ? lines.lower_slope[i] : lines.upper_slope[i]) + beta * constraint.slope;
    sums[0] += static_cast<double>(x) * static_cast<double>(x >= 0 ? lines.lower_shift[i] : lines.upper_shift[i]);
    sums[0] += static_cast<double>(beta) * static_cast<double>(constraint.shift);
    if constexpr (Outward) {
      sums[1] += static_cast<double>(std::fabs(x)) * static_cast<double>(f.error[i]);
      sums[1] += static_cast<double>(beta) * static_cast<double>(f.split_error[i]) + 4 * float_floor * s.reach[c];
    }
  });
  block_sums<row_threads>(sums);
  if (threadIdx.x != 0 || !counts) return;
  double const value = rows.value[r] + sums[0];
  rows.value[r] = value;
  if constexpr (Outward) {
    double const share = 1 + gamma(4 * live + 256, unit_double);
    rows.slack[r] = up::add(rows.slack[r], sums[1] * share + s.floor[0] + 2 * unit_double * std::fabs(value));
  }
}

/// The relaxed forward pass at one stage: `a` becomes the deviation of the output, `d` of the head is spent.
static __global__ void __launch_bounds__(row_threads)
    climb_rows_kernel(row_block rows, stage_state s, free_columns f, free_rows p, adam_step adam, float* a, float* d) {
  std::size_t const r = blockIdx.x, live = s.live_count;
  float* const row = a + r * live;
  float* const head = d + r * live;
  std::size_t const first = r * p.width + f.offset;
  bool const climbs = p.climbs(r);
  for_splits(p, f, r, [&](std::size_t q, std::size_t i) {
    std::size_t const c = f.column[i];
    float const x = row[c], t = head[c];
    row[c] = 0;
    line_arrays const& lines = p.split_sign[q] > 0 ? f.above : f.below;
    auto const constraint = constraint_of(f, i, p.split_sign[q]);
    p.held[q] = (x >= 0 ? lines.lower_slope[i] : lines.upper_slope[i]) * t +
                (x >= 0 ? lines.lower_shift[i] : lines.upper_shift[i]);
    if (!climbs) return;
    climb(p.beta[q], p.beta_mean[q], p.beta_square[q], constraint.slope * t + constraint.shift, adam.beta_rate, adam,
          1e30f);
  });
  __syncthreads();
  for (std::size_t i = threadIdx.x; i < f.count; i += row_threads) {
    float const x = row[f.column[i]], t = head[f.column[i]];
    free_side const line = side_of(f, x >= 0);
    float const share = p.alpha[first + i];
    head[f.column[i]] = line.slope(i, share) * t + static_cast<float>(line.shift(i, share));
    if (!climbs) continue;
    climb(p.alpha[first + i], p.alpha_mean[first + i], p.alpha_square[first + i], x * line.gradient(i, t),
          adam.alpha_rate, adam, 1.0f);
  }
  __syncthreads();
  for_splits(p, f, r, [&](std::size_t q, std::size_t i) { head[f.column[i]] = p.held[q]; });
  __syncthreads();
  for (std::size_t c = threadIdx.x; c < live; c += row_threads) {
    bool const positive = row[c] >= 0;
    row[c] = (f.mask[c] + (positive ? f.fixed.lower_slope[c] : f.fixed.upper_slope[c])) * head[c] +
             (positive ? f.fixed.lower_shift[c] : f.fixed.upper_shift[c]);
  }
}

/// The same for a stage without free columns: only the lines of the state.
static __global__ void follow_rows_kernel(stage_state s, std::size_t count, float* a, float const* d) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x, live = s.live_count;
  if (i >= count * live) return;
  std::size_t const c = i % live;
  bool const positive = a[i] >= 0;
  a[i] = (positive ? s.lower_slope[c] : s.upper_slope[c]) * d[i] + (positive ? s.lower_shift[c] : s.upper_shift[c]);
}

/// At the input: from coefficients to the deviation of the corner at which each row's bound is attained.
static __global__ void minimise_rows_kernel(stage_state s, std::size_t count, float* a) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x, live = s.live_count;
  if (i >= count * live) return;
  float const reach = s.reach[i % live];
  a[i] = a[i] > 0 ? -reach : a[i] < 0 ? reach : 0.0f;
}

/// Every row begins with CROWN's own parameters of this stage.
static __global__ void start_rows_kernel(free_columns f, free_rows p, std::size_t count) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count * f.count) p.alpha[i / f.count * p.width + f.offset + i % f.count] = f.start[i % f.count];
}

/// Moves parts of `width` numbers together: part from[i] becomes part i, from[i] >= i and rising. A block owns
/// `columns` columns of all parts, a power of two; what it reads together is read before it writes, and no earlier
/// write meets a later read.
template <class T>
__global__ void __launch_bounds__(list_threads)
    move_parts_kernel(T* numbers, std::size_t width, unsigned columns, index_t const* from, unsigned count) {
  constexpr unsigned ahead = 4;
  std::size_t const column = std::size_t{blockIdx.x} * columns + threadIdx.x % columns;
  unsigned const together = list_threads / columns;
  for (unsigned first = threadIdx.x / columns; first / together * together < count; first += ahead * together) {
    T part[ahead];
#pragma unroll
    for (unsigned j = 0; j < ahead; ++j) {
      unsigned const i = first + j * together;
      if (i < count && column < width) part[j] = numbers[from[i] * width + column];
    }
    __syncthreads();
#pragma unroll
    for (unsigned j = 0; j < ahead; ++j) {
      unsigned const i = first + j * together;
      if (i < count && column < width) numbers[i * width + column] = part[j];
    }
    __syncthreads();
  }
}

/// The parameters of row r, which are the best so far. By all threads of a block.
static __device__ void keep_row(free_rows const& p, std::size_t r) {
  for (std::size_t i = threadIdx.x; i < p.width; i += blockDim.x)
    p.alpha_best[r * p.width + i] = p.alpha[r * p.width + i];
  for (std::size_t q = threadIdx.x; q < p.split_count[r]; q += blockDim.x)
    p.beta_best[r * p.splits + q] = p.beta[r * p.splits + q];
}

/// Notes the bounds of rows that have not ended, and keeps the parameters of those that are better than before. One
/// block for each row.
static __global__ void note_bounds_kernel(row_block rows, free_rows p, std::size_t patience, bool last) {
  __shared__ bool better;
  std::size_t const r = blockIdx.x;
  if (!p.climbs(r)) return;
  __syncthreads();  // all have read that before it changes
  if (threadIdx.x == 0) better = p.progress[r].note(rows.bound[r], patience, last);
  __syncthreads();
  if (better && p.has_best) keep_row(p, r);
}

/// The same for rows of hidden neurons; one block for the two of each.
static __global__ void note_pairs_kernel(row_block rows, free_rows p, std::size_t patience, bool gains) {
  __shared__ bool better[2];
  std::size_t const r = 2 * std::size_t{blockIdx.x};
  if (!p.climbs(r)) return;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned i = 0; i < 2; ++i) better[i] = p.progress[r + i].note(rows.bound[r + i], patience, false);
    end_together(p.progress[r], p.progress[r + 1], gains && rows.value[r] == 0);
  }
  __syncthreads();
  if (!p.has_best) return;
  for (unsigned i = 0; i < 2; ++i) {
    if (better[i]) keep_row(p, r + i);
  }
}

}  // namespace hull::cuda
