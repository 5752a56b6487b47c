// SPDX-License-Identifier: Apache-2.0
// Optimised rows as patches (patch_plan.cuh): what free.cuh does on dense rows. Rows that start at a neuron have no
// splits, so every line is a mean of two that are known before; a table of a stage has them in the order of patches.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/backend/cuda/conv_patch.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/free_rows.hpp>
#include <hull/propagate/free.hpp>

namespace hull::cuda {

/// One column: its lines for coefficients that are not below 0, and for the others.
struct __align__(16) climb_line final {
  static constexpr int fixed = -1, dead = -2;

  /// As free_side (backend/free_rows.hpp), with the numbers side by side: its line for parameter `share`.
  struct __align__(16) side {
    float slope_zero, slope_one, shift_zero, shift_one;

    [[nodiscard]] __device__ float slope(float share) const { return slope_zero + share * (slope_one - slope_zero); }
    [[nodiscard]] __device__ double shift(float share) const {
      double const zero = shift_zero;
      return zero + static_cast<double>(share) * (static_cast<double>(shift_one) - zero);
    }
    [[nodiscard]] __device__ float gradient(float d) const {
      return (slope_one - slope_zero) * d + (shift_one - shift_zero);
    }
  };
  side lower, upper;
  float error;
  int number;  // of the free column, or one of the above
  int unused[2];
};

/// Floats of the table of a stage, [position of the layer, place in the pitch].
[[nodiscard]] constexpr std::size_t climb_table_floats(patch const& at) {
  return static_cast<std::size_t>(at.plane()) * static_cast<std::size_t>(at.pitch()) *
         (sizeof(climb_line) / sizeof(float));
}

/// Whether optimised rows that start at stage `start` are patches all the way to the input, and back.
template <Network Net>
[[nodiscard]] constexpr bool climbs_as_patches(std::size_t start) {
  if (start == row_block::anywhere || start < 2) return false;
  bool all = patches<Net>[start][0].kept;
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    if (K >= start) return;
    using S = stage<Net, K>;
    if constexpr (HeadOf<typename S::head, conv_head>) {
      patch const& from = patches<Net>[start][S::template input<0>];
      constexpr auto groups = static_cast<int>(S::head::filter.groups);
      // the forward step reads the channels of a group side by side
      bool const unbroken = from.each == from.each_padded() || from.each == from.channels;
      bool const aligned = groups == 1 || from.channels / groups % 4 == 0;
      all = all && patches<Net>[start][K].kept && from.kept && unbroken && aligned;
    } else {
      all = false;
    }
  });
  return all;
}

/// Tables of all stages before `start`, one after the other.
template <Network Net>
[[nodiscard]] constexpr std::size_t climb_table_offset(std::size_t start, std::size_t k) {
  std::size_t floats = 0;
  for (std::size_t j = 1; j < k; ++j) floats += climb_table_floats(patches<Net>[start][j]);
  return floats;
}

/// Columns without parameters, and what is dead; free ones come next. `s.lower_slope` and so on, or the lines that
/// free columns leave to the others.
static __global__ void climb_table_kernel(patch at, index_t const* slot, line_arrays lines, float const* error,
                                          std::size_t count, climb_line* table) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  std::size_t const plane = static_cast<std::size_t>(at.plane()), position = i % plane, place = i / plane;
  int const channel = at.channel(static_cast<int>(place));
  climb_line line{};
  line.number = climb_line::dead;
  index_t const c = channel < 0 ? stage_state::dead : slot[static_cast<std::size_t>(channel) * plane + position];
  if (c != stage_state::dead) {
    line.lower = {lines.lower_slope[c], lines.lower_slope[c], lines.lower_shift[c], lines.lower_shift[c]};
    line.upper = {lines.upper_slope[c], lines.upper_slope[c], lines.upper_shift[c], lines.upper_shift[c]};
    line.error = error[c];
    line.number = climb_line::fixed;
  }
  table[position * static_cast<std::size_t>(at.pitch()) + place] = line;
}
static __global__ void climb_table_free_kernel(patch at, index_t const* live, free_columns f, climb_line* table) {
  std::size_t const i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= f.count) return;
  int const element = static_cast<int>(live[f.column[i]]), plane = at.plane();
  climb_line line{};
  line.lower = {f.zero.lower_slope[i], f.one.lower_slope[i], f.zero.lower_shift[i], f.one.lower_shift[i]};
  line.upper = {f.zero.upper_slope[i], f.one.upper_slope[i], f.zero.upper_shift[i], f.one.upper_shift[i]};
  line.error = f.error[i];
  line.number = static_cast<int>(i);
  table[element % plane * at.pitch() + at.place(element / plane)] = line;
}

/// Fills the table of stage S. Of one box.
template <class S>
void climb_table(cudaStream_t stream, patch const& at, stage_state const& s, free_columns const& f, float* memory) {
  auto* const table = reinterpret_cast<climb_line*>(memory);
  std::size_t const count = static_cast<std::size_t>(at.plane()) * static_cast<std::size_t>(at.pitch());
  bool constexpr kink = hull::detail::has_kink<S>();
  line_arrays const own{s.lower_slope, s.upper_slope, s.lower_shift, s.upper_shift};
  climb_table_kernel<<<blocks_for(count, 256), 256, 0, stream>>>(at, s.slot, kink ? f.fixed : own,
                                                                 kink ? f.fixed_error : s.error, count, table);
  if (kink && f.count > 0) {
    climb_table_free_kernel<<<blocks_for(f.count, 256), 256, 0, stream>>>(at, s.live, f, table);
  }
  check_launch("climb_table");
}

/// relax_free_rows_kernel on patches: from the output (`a`, kept) to the head (`moved`). A block takes a row.
template <bool Outward, unsigned Threads>
__global__ void __launch_bounds__(Threads)
    patch_relax_free_kernel(patch at, row_block rows, stage_state s, free_columns f, free_rows p,
                            climb_line const* __restrict__ table, float const* a, float* moved) {
  std::size_t const r = blockIdx.x;
  patch_place const where = place_of(at, rows.index[r]);
  unsigned const count = static_cast<unsigned>(at.floats());
  float const* const row = a + r * count;
  float* const out = moved + r * count;
  float const* const alpha = p.alpha + r * p.width + f.offset;
  double sums[2] = {};  // value, slack
#pragma unroll 4
  for (unsigned e = threadIdx.x; e < count; e += Threads) {
    patch_cell const cell = cell_of(at, where, e);
    float const x = row[e];
    float relaxed = 0;
    if (cell.position >= 0) {
      climb_line const& line = table[cell.position * at.pitch() + cell.place];
      int const number = line.number;
      if (number != climb_line::dead) {
        climb_line::side const side = x >= 0 ? line.lower : line.upper;
        float const share = number >= 0 ? alpha[number] : 0.0f;
        relaxed = x * side.slope(share);
        sums[0] += static_cast<double>(x) * side.shift(share);
        if constexpr (Outward) sums[1] += static_cast<double>(std::fabs(x)) * static_cast<double>(line.error);
      }
    }
    out[e] = relaxed;
  }
  block_sums<Threads>(sums);
  if (threadIdx.x != 0) return;
  double const value = rows.value[r] + sums[0];
  rows.value[r] = value;
  if constexpr (Outward) {
    double const share = 1 + gamma(4 * s.live_count + 256, unit_double);
    rows.slack[r] = up::add(rows.slack[r], sums[1] * share + s.floor[0] + 2 * unit_double * std::fabs(value));
  }
}

/// climb_rows_kernel on patches: `a` becomes the deviation of the output; `d` is that of the head. Threads of a warp
/// take neighbours of one channel, whose parameters are neighbours.
template <unsigned Threads>
__global__ void __launch_bounds__(Threads)
    patch_climb_kernel(patch at, divisor by_positions, row_block rows, free_columns f, free_rows p, adam_step adam,
                       climb_line const* __restrict__ table, float* a, float const* d) {
  std::size_t const r = blockIdx.x, first = r * p.width + f.offset;
  patch_place const where = place_of(at, rows.index[r]);
  unsigned const count = static_cast<unsigned>(at.floats()), pitch = static_cast<unsigned>(at.pitch());
  float* const row = a + r * count;
  float const* const head = d + r * count;
  bool const climbs = p.climbs(r);
  for (unsigned n = threadIdx.x; n < count; n += Threads) {
    unsigned const place = by_positions.quotient(n), position = n - place * by_positions.by;
    patch_cell const cell = cell_of(at, where, position * pitch + place);
    float& x = row[position * pitch + place];
    float moved = 0;
    if (cell.position >= 0) {
      climb_line const& line = table[static_cast<unsigned>(cell.position) * pitch + place];
      int const number = line.number;
      if (number != climb_line::dead) {
        float const t = head[position * pitch + place];
        climb_line::side const side = x >= 0 ? line.lower : line.upper;
        float share = 0;
        if (number >= 0) {
          std::size_t const at_row = first + static_cast<std::size_t>(number);
          share = p.alpha[at_row];
          if (climbs) {
            climb(p.alpha[at_row], p.alpha_mean[at_row], p.alpha_square[at_row], x * side.gradient(t), adam.alpha_rate,
                  adam, 1.0f);
          }
        }
        moved = side.slope(share) * t + static_cast<float>(side.shift(share));
      }
    }
    x = moved;
  }
}

/// minimise_rows_kernel on patches. What lies outside of the input, or is dead, does not deviate.
static __global__ void patch_minimise_kernel(patch at, row_block rows, stage_state s, float* a) {
  std::size_t const r = blockIdx.x;
  patch_place const where = place_of(at, rows.index[r]);
  unsigned const count = static_cast<unsigned>(at.floats());
  for (unsigned e = threadIdx.x; e < count; e += blockDim.x) {
    patch_cell const cell = cell_of(at, where, e);
    int const channel = at.channel(cell.place);
    float& x = a[r * count + e];
    index_t slot = stage_state::dead;
    if (cell.position >= 0 && channel >= 0 && channel < at.channels)
      slot = s.slot[channel * at.plane() + cell.position];
    float const reach = slot == stage_state::dead ? 0.0f : s.reach[slot];
    x = x > 0 ? -reach : x < 0 ? reach : 0.0f;
  }
}

inline constexpr std::size_t few_patch_floats = 1024;  // a block of 64 threads is enough for them

/// Rows from the output of a stage (`a`) to its head (`moved`), with parameters of their own.
template <class R>
void patch_relax_free(cudaStream_t stream, patch const& at, row_block const& rows, stage_state const& s,
                      free_columns const& f, free_rows const& p, climb_line const* table, float const* a,
                      float* moved) {
  auto const blocks = static_cast<unsigned>(rows.count);
  // the sums of a row depend on the number of threads, so that must not depend on the number of rows
  if (at.floats() <= few_patch_floats) {
    patch_relax_free_kernel<R::outward, 64><<<blocks, 64, 0, stream>>>(at, rows, s, f, p, table, a, moved);
  } else {
    patch_relax_free_kernel<R::outward, 256><<<blocks, 256, 0, stream>>>(at, rows, s, f, p, table, a, moved);
  }
  check_launch("patch_relax_free");
}

inline void patch_climb(cudaStream_t stream, patch const& at, row_block const& rows, free_columns const& f,
                        free_rows const& p, adam_step const& adam, climb_line const* table, float* a, float const* d) {
  auto const blocks = static_cast<unsigned>(rows.count);
  divisor const by_positions(at.positions());
  if (at.floats() <= few_patch_floats) {
    patch_climb_kernel<64><<<blocks, 64, 0, stream>>>(at, by_positions, rows, f, p, adam, table, a, d);
  } else {
    patch_climb_kernel<256><<<blocks, 256, 0, stream>>>(at, by_positions, rows, f, p, adam, table, a, d);
  }
  check_launch("patch_climb");
}

inline void patch_minimise(cudaStream_t stream, patch const& at, row_block const& rows, stage_state const& s,
                           float* a) {
  patch_minimise_kernel<<<static_cast<unsigned>(rows.count), 128, 0, stream>>>(at, rows, s, a);
  check_launch("patch_minimise");
}

}  // namespace hull::cuda
