// SPDX-License-Identifier: Apache-2.0
// Kernels of ranks that divide neurons (divided_machine.cuh): who sends rows, and what each counts of a row's
// constants. A row with sign 0 is that of another rank's neuron.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/rows.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/backend/lines.hpp>
#include <hull/propagate/share.hpp>

namespace hull::cuda {

/// counts[b] becomes how many of the first `valid` neurons are candidates. A block takes a box.
template <class S>
__global__ void __launch_bounds__(list_threads)
    count_gaining_kernel(weights_view<typename S::net> weights, stage_state s, bool all, unsigned valid,
                         double* counts) {
  double sums[1] = {};
  for (unsigned i = threadIdx.x; i < valid; i += list_threads) {
    sums[0] += all || gains_from_bounds<S>(weights, s, blockIdx.x, i) ? 1 : 0;
  }
  block_sums<list_threads>(sums);
  if (threadIdx.x == 0) counts[blockIdx.x] = *sums_of<1>();
}

/// As candidates_kernel, of the first `valid` neurons; all of them where more than `most` of all ranks' are candidates
/// (`counts` [batch], null: never).
template <class S>
__global__ void __launch_bounds__(list_threads)
    own_candidates_kernel(weights_view<typename S::net> weights, stage_state s, std::size_t batch, bool all,
                          unsigned valid, double const* counts, double most, index_t* candidates, index_t* count) {
  unsigned written = 0;
  for (std::size_t b = 0; b < batch; ++b) {
    bool const take = all || (counts != nullptr && counts[b] > most);
    index_t const start = static_cast<index_t>(b * S::size);
    written += pack<list_threads>(
        valid,
        [&](std::size_t i) {
          return listed_neuron{take || gains_from_bounds<S>(weights, s, b, i), start + static_cast<index_t>(i)};
        },
        [&](unsigned place, listed_neuron const& one) { candidates[written + place] = one.at; });
  }
  if (threadIdx.x == 0) *count = written;
}

/// Names rows for candidates from number `first` on; `own`: the numbers of this rank's, which `candidates` lists.
static __global__ void name_own_kernel(stage_state s, index_t const* candidates, row_range own, std::size_t first,
                                       row_block rows, naming how) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count) return;
  std::size_t const number = first + (how == naming::both ? r / 2 : r);
  rows.box[r] = rows.index[r] = 0;
  rows.sign[r] = 0;
  if (number < own.first || number >= own.last) return;
  std::size_t const at = candidates[number - own.first];
  bool const upright = how == naming::both ? r % 2 == 0 : -s.lower[at] < s.upper[at];
  rows.box[r] = static_cast<index_t>(at / s.size);
  rows.index[r] = static_cast<index_t>(at % s.size);
  rows.sign[r] = upright ? 1.0f : -1.0f;
}

/// Boxes of rows to numbers that ranks can add up, and back.
static __global__ void boxes_to_values_kernel(row_block rows) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r < rows.count) rows.value[r] = rows.box[r];
}
static __global__ void values_to_boxes_kernel(row_block rows) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r < rows.count) rows.box[r] = static_cast<index_t>(rows.value[r]);
}

/// The rows whose value is not 0, turned around.
static __global__ void __launch_bounds__(list_threads) turn_rows_kernel(row_block rows, index_t* count) {
  turn_rows(rows, count, [&](std::size_t r) { return rows.value[r] != 0; });
}

/// Constants become 0 where another rank counts them. `divided`: rows of neurons that only one rank has; else the first
/// rank counts for all.
static __global__ void drop_constants_kernel(row_block rows, bool divided, bool counts_for_all) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count || (divided ? rows.sign[r] != 0 : counts_for_all)) return;
  rows.value[r] = rows.slack[r] = 0;
  if (rows.far_value != nullptr) rows.far_value[r] = 0;
}

/// Constants of rows to `places` [2 or 3, rows], or from there.
template <bool Pack>
__global__ void copy_constants_kernel(row_block rows, double* places) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count) return;
  double* const of_row[] = {rows.value, rows.slack, rows.far_value};
  for (unsigned i = 0; i < 3; ++i) {
    if (of_row[i] == nullptr) continue;
    (Pack ? places[i * rows.count + r] : of_row[i][r]) = Pack ? of_row[i][r] : places[i * rows.count + r];
  }
}

/// What adding up constants over ranks can cost goes to the slack. `share`: relative error of such a sum.
static __global__ void widen_slack_kernel(row_block rows, double share) {
  std::size_t const r = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= rows.count) return;
  double size = std::fabs(rows.value[r]);
  if (rows.far_value != nullptr) {
    double const far = std::fabs(rows.far_value[r]);
    size = far > size ? far : size;  // NaN in either reaches the sum of that one
  }
  rows.slack[r] = (rows.slack[r] + share * size) * (1 + share);
}

}  // namespace hull::cuda
