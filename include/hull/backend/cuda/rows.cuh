// SPDX-License-Identifier: Apache-2.0
// Rows: which neurons send them, how they start, and what becomes of their bounds. As backend/cpu/neurons.hpp, step by
// step, on lists in device memory.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/forward.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/backend/lines.hpp>
#include <hull/net/blocks.hpp>
#include <hull/propagate/share.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cuda {

/// What is at a place of a list, for pack().
struct listed_neuron final {
  bool wanted = false;
  index_t at = 0;  // box * size + index
};
struct listed_row final {
  bool wanted = false;
  index_t box = 0, index = 0;
  float sign = 0;
};

/// Lists, in one block, the neurons of stage S whose relaxation tighter bounds could tighten; `all`: all. Where almost
/// all of a box are, the rest is cheap and helps the layers behind a little: `generous`.
template <class S>
__global__ void candidates_kernel(weights_view<typename S::net> weights, stage_state s, std::size_t batch, bool all,
                                  bool generous, index_t* candidates, index_t* count) {
  unsigned written = 0;
  for (std::size_t b = 0; b < batch; ++b) {
    index_t const start = static_cast<index_t>(b * S::size);
    unsigned found = pack<list_threads>(
        S::size,
        [&](std::size_t i) {
          return listed_neuron{all || gains_from_bounds<S>(weights, s, b, i), start + static_cast<index_t>(i)};
        },
        [&](unsigned place, listed_neuron const& one) { candidates[written + place] = one.at; });
    __syncthreads();  // before the list is written again
    if (generous && std::size_t{found} * 10 > S::size * 9) {
      for (unsigned i = threadIdx.x; i < S::size; i += list_threads) candidates[written + i] = start + i;
      found = static_cast<unsigned>(S::size);
    }
    written += found;
    __syncthreads();
  }
  if (threadIdx.x == 0) *count = written;
}

/// How rows get their neurons.
enum class naming {
  given,   // they have them
  both,    // rows 2p and 2p + 1 for the lower and upper bound of one
  nearer,  // one row for each, for the bound nearer to 0
};

/// Neuron (as box * size + index) and sign of row r.
struct named_row final {
  std::size_t at;
  float sign;
};
__device__ inline named_row name_of(stage_state const& s, index_t const* neurons, row_block const& rows, std::size_t r,
                                    naming how) {
  if (how == naming::given) return {rows.box[r] * s.size + rows.index[r], rows.sign[r]};
  std::size_t const at = neurons[how == naming::both ? r / 2 : r];
  bool const upright = how == naming::both ? r % 2 == 0 : -s.lower[at] < s.upper[at];
  return {at, upright ? 1.0f : -1.0f};
}

/// Names row r, and starts its value and slack.
template <bool Outward>
__device__ void start_row(stage_state const& s, row_block const& rows, std::size_t r, named_row name,
                          double seed_error) {
  rows.box[r] = static_cast<index_t>(name.at / s.size);
  rows.index[r] = static_cast<index_t>(name.at % s.size);
  rows.sign[r] = name.sign;
  double const value = name.sign * s.origin[name.at];
  rows.value[r] = value;
  rows.slack[r] = Outward ? s.origin_error[name.at] + seed_error * s.radius[name.at] : 0;
  if (rows.far_value != nullptr) rows.far_value[r] = value;
}
template <bool Outward>
__global__ void start_kernel(stage_state s, index_t const* neurons, row_block rows, naming how, double seed_error) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r < rows.count) start_row<Outward>(s, rows, r, name_of(s, neurons, rows, r, how), seed_error);
}

/// Keeps the rows that `wanted(r)` says, moved together and turned around, for the other bound of their neurons; in one
/// block.
template <class Wanted>
__device__ inline void turn_rows(row_block const& rows, index_t* count, Wanted&& wanted) {
  unsigned const kept = pack<list_threads>(
      rows.count,
      [&](std::size_t r) {
        return listed_row{wanted(r), rows.box[r], rows.index[r], rows.sign[r]};
      },
      [&](unsigned place, listed_row const& one) {
        rows.box[place] = one.box;
        rows.index[place] = one.index;
        rows.sign[place] = -one.sign;
      });
  if (threadIdx.x == 0) *count = kept;
}

/// The rows of the neurons that still gain, turned around.
template <class S>
__global__ void opposite_kernel(weights_view<typename S::net> weights, stage_state s, row_block rows, bool all,
                                index_t* count) {
  turn_rows(rows, count,
            [&](std::size_t r) { return all || gains_from_bounds<S>(weights, s, rows.box[r], rows.index[r]); });
}

/// rows.value becomes 1 for neurons of the block (`all`: each of them) that tighter bounds could still help, else 0. A
/// sign of 0 marks rows of neurons that another rank has.
template <class S>
__global__ void mark_gaining_kernel(weights_view<typename S::net> weights, stage_state s, row_block rows, bool all) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count) return;
  bool const own = rows.sign[r] != 0;
  rows.value[r] = own && (all || gains_from_bounds<S>(weights, s, rows.box[r], rows.index[r])) ? 1 : 0;
}

/// The same for a Linear head, one block for each row, with the coefficients of the operand: sign times rows of W. The
/// matrix may come in blocks of columns, `mine` the live columns of x in this one; the last starts the rows.
template <bool Outward>
__global__ void linear_seed_kernel(column_block w, row_range mine, bool starts, stage_state y, index_t const* neurons,
                                   row_block rows, naming how, double seed_error, stage_state x, float* a) {
  std::size_t const r = blockIdx.x, live = x.live_count;
  named_row const name = name_of(y, neurons, rows, r, how);
  float const* const row = w.weight + name.at % y.size * w.stride;
  for (std::size_t c = mine.first + threadIdx.x; c < mine.last; c += blockDim.x) {
    a[r * live + c] = name.sign * row[x.live[c] - w.first];
  }
  __syncthreads();  // all have read the row's name
  if (starts && threadIdx.x == 0) start_row<Outward>(y, rows, r, name, seed_error);
}

/// ends[i] becomes the number of live columns of x among the first (i + 1) * width elements.
static __global__ void block_ends_kernel(index_t const* live, index_t const* live_count, std::size_t width,
                                         unsigned count, index_t* ends) {
  unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  index_t low = 0, high = *live_count;
  while (low < high) {
    index_t const middle = low + (high - low) / 2;
    if (live[middle] < (i + 1) * width) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  ends[i] = low;
}

/// Coefficient buffers of the operands of a head.
template <class S>
struct operand_rows final {
  float* of[S::input_count == 0 ? 1 : S::input_count];
};
template <class S>
[[nodiscard]] operand_rows<S> by_value(operands<S, float*> const& a) {
  operand_rows<S> rows;
  for (std::size_t i = 0; i < a.size(); ++i) rows.of[i] = a[i];
  return rows;
}

/// Adds row r's coefficient `value` of element k to the operands' coefficients.
template <class S>
__device__ void sparse_spread(operand_states<S> const& x, operand_rows<S> const& a, std::size_t r, std::size_t k,
                              float value) {
  for_terms<S>(k, [&](std::size_t input, std::size_t index, float coefficient) {
    index_t const slot = x.of[input].slot[index];
    if (slot != stage_state::dead) a.of[input][r * x.of[input].live_count + slot] += value * coefficient;
  });
}

template <class S>
__global__ void sparse_seed_kernel(row_block rows, operand_states<S> x, operand_rows<S> a) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r < rows.count) sparse_spread<S>(x, a, r, rows.index[r], rows.sign[r]);
}

/// Intersects an interval with bounds; a bound that is NaN changes nothing. `replace`: takes them as they are.
__device__ inline void meet_interval(stage_state const& s, std::size_t at, float lower, float upper, bool replace) {
  bool const both = replace && std::isfinite(lower) && std::isfinite(upper);
  float const new_lower = both || lower > s.lower[at] ? lower : s.lower[at];
  float const new_upper = both || upper < s.upper[at] ? upper : s.upper[at];
  if (!(new_lower <= new_upper)) return;  // rounding under `Nearest`; impossible under `Outward`
  s.lower[at] = new_lower;
  s.upper[at] = new_upper;
}

/// Gives both bounds of each row to the intervals.
static __global__ void refine_nearer_kernel(stage_state s, row_block rows) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count || rows.sign[r] == 0) return;
  bool const upright = rows.sign[r] > 0;
  float const lower = down::from_double(upright ? rows.bound[r] : -rows.far_bound[r]);
  float const upper = up::from_double(upright ? rows.far_bound[r] : -rows.bound[r]);
  meet_interval(s, rows.box[r] * s.size + rows.index[r], lower, upper, false);
}

/// The same for rows in pairs, lower and upper.
static __global__ void refine_kernel(stage_state s, row_block rows, bool replace) {
  std::size_t const r = 2 * (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (r + 1 >= rows.count || rows.sign[r] == 0) return;
  meet_interval(s, rows.box[r] * s.size + rows.index[r], down::from_double(rows.bound[r]),
                up::from_double(-rows.bound[r + 1]), replace);
}

/// Intersects the intervals of elements [first, first + count) with known ones: `count` lower, then `count` upper.
static __global__ void narrow_kernel(stage_state s, std::size_t first, std::size_t count, float const* known) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) meet_interval(s, first + i, known[i], known[count + i], false);
}

/// Sets the input stage to boxes of floats, [b, n]. Lines are the identity.
static __global__ void load_boxes_kernel(stage_state s, std::size_t batch, float const* lower, float const* upper) {
  std::size_t const at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= batch * s.size) return;
  float const low = lower[at], high = upper[at];
  float const centre = static_cast<float>(0.5 * (static_cast<double>(low) + static_cast<double>(high)));
  float const above = up::sub(high, centre), under = up::sub(centre, low);
  s.lower[at] = low;
  s.upper[at] = high;
  s.centre[at] = centre;
  s.spread[at] = above < under ? under : above;
  s.origin[at] = centre;
  s.origin_error[at] = 0;
  s.radius[at] = s.spread[at];
  s.lower_slope[at] = s.upper_slope[at] = 1;
  s.lower_shift[at] = s.upper_shift[at] = s.lower_far[at] = s.upper_far[at] = s.error[at] = 0;
}

}  // namespace hull::cuda
