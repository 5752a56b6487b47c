// SPDX-License-Identifier: Apache-2.0
// Rows with parameters of their own: the step from the output of a stage to its head, and on the way back, in the
// relaxed forward pass, the step from head to output, where gradients become known and parameters move.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <hull/backend/cpu/lanes.hpp>
#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/free_rows.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cpu {

namespace detail {

/// Calls body(q, f) for the splits of row r in this stage.
template <class Body>
void for_splits(free_rows const& p, free_columns const& f, std::size_t r, Body&& body) {
  if (p.splits == 0) return;
  for (std::size_t q = r * p.splits; q < r * p.splits + p.split_count[r]; ++q) {
    std::size_t const parameter = p.split_parameter[q];
    if (parameter >= f.offset && parameter < f.offset + f.count) body(q, parameter - f.offset);
  }
}

/// Takes the coefficients of split columns out of the row, where their lines depend on the split alone.
inline void hold_splits(free_rows const& p, free_columns const& f, std::size_t r, float* row) {
  for_splits(p, f, r, [&](std::size_t q, std::size_t at) {
    p.held[q] = row[f.column[at]];
    row[f.column[at]] = 0;
  });
}

/// Free columns are taken together in pieces of this many, copied to where they lie side by side: nothing vectorises
/// that writes to places from a list. A multiple of sum_lanes.
inline constexpr std::size_t together = 64;

/// Calls body(first, count, columns) for such pieces.
template <class Body>
void for_pieces(free_columns const& f, Body&& body) {
  for (std::size_t i = 0; i < f.count; i += together) body(i, std::min(together, f.count - i), f.column + i);
}

}  // namespace detail

/// Every row begins with CROWN's own parameters of this stage.
inline void start_rows(free_columns const& f, free_rows const& p, std::size_t rows) {
  for (std::size_t r = 0; r < rows; ++r) std::copy_n(f.start, f.count, p.alpha + r * p.width + f.offset);
}

/// Moves rows together: row from[i] becomes row i; from[i] >= i, rising.
inline void move_rows(row_block const& rows, free_rows const& p, std::span<index_t const> from) {
  auto const move = [&](auto* numbers, std::size_t width) {
    if (numbers == nullptr) return;
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (from[i] != i) std::copy_n(numbers + from[i] * width, width, numbers + i * width);
    }
  };
  move(rows.box, 1);
  move(rows.index, 1);
  move(rows.sign, 1);
  for (float* const array : p.by_parameter()) move(array, p.width);
  move(p.split_count, 1);
  move(p.split_parameter, p.splits);
  for (float* const array : p.by_split()) move(array, p.splits);
  move(p.progress, 1);
}

/// Notes the bound of row r, and keeps its parameters if it is better than before.
inline void note_bound(row_block const& rows, free_rows const& p, std::size_t r, std::size_t patience, bool last) {
  if (!p.progress[r].note(rows.bound[r], patience, last) || !p.has_best) return;
  std::copy_n(p.alpha + r * p.width, p.width, p.alpha_best + r * p.width);
  std::copy_n(p.beta + r * p.splits, p.splits, p.beta_best + r * p.splits);
}

/// Of rows that have not ended.
inline void note_bounds(row_block const& rows, free_rows const& p, std::size_t patience, bool last) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (p.climbs(r)) note_bound(rows, p, r, patience, last);
  }
}

/// The same for rows of hidden neurons, two for each. `gains`: rows.value is 0 where tighter bounds help no more.
inline void note_pairs(row_block const& rows, free_rows const& p, std::size_t patience, bool gains) {
  for (std::size_t r = 0; r < rows.count; r += 2) {
    if (!p.climbs(r)) continue;
    for (std::size_t i = r; i < r + 2; ++i) note_bound(rows, p, i, patience, false);
    end_together(p.progress[r], p.progress[r + 1], gains && rows.value[r] == 0);
  }
}

/// relax_rows with the rows' own lines in free columns: from `a` [r, live] at the output, which is kept, to `moved`
/// [r, live] at the head. Adds to value and slack. Sound for any parameters in [0, 1] and any beta >= 0.
template <class R>
void relax_free_rows(row_block const& rows, stage_state const& s, free_columns const& f, free_rows const& p, float* a,
                     float* moved, bool counts = true) {
  std::size_t const live = s.live_count;
  free_side const low = side_of(f, true), high = side_of(f, false);
  parallel_ranges(rows.count, 1, 4 * live, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float* const row = a + r * live;
      float* const out = moved + r * live;
      detail::hold_splits(p, f, r, row);
      lane_sums<2> sums{};
      for_lanes(live, [&](std::size_t c, std::size_t lane) {
        float const x = row[c];
        out[c] = x * by_sign(x, f.fixed.lower_slope[c], f.fixed.upper_slope[c]);
        float const shift = by_sign(x, f.fixed.lower_shift[c], f.fixed.upper_shift[c]);
        sums[0][lane] += static_cast<double>(x) * static_cast<double>(shift);
        sums[1][lane] += static_cast<double>(std::fabs(x)) * static_cast<double>(f.fixed_error[c]);
      });
      float const* const alpha = p.alpha + r * p.width + f.offset;
      detail::for_pieces(f, [&](std::size_t i, std::size_t count, index_t const* column) {
        float at[detail::together], moved_to[detail::together];
        for (std::size_t j = 0; j < count; ++j) at[j] = row[column[j]];
        for_lanes(count, [&](std::size_t j, std::size_t lane) {
          float const x = at[j], share = alpha[i + j];
          moved_to[j] = x * by_sign(x, low.slope(i + j, share), high.slope(i + j, share));
          double const shift = by_sign(x, low.shift(i + j, share), high.shift(i + j, share));
          sums[0][lane] += static_cast<double>(x) * shift;
          sums[1][lane] += static_cast<double>(std::fabs(x)) * static_cast<double>(f.error[i + j]);
        });
        for (std::size_t j = 0; j < count; ++j) out[column[j]] = moved_to[j];
      });
      double value = total(sums[0]), slack = total(sums[1]);
      detail::for_splits(p, f, r, [&](std::size_t q, std::size_t i) {
        float const x = p.held[q];
        line_arrays const& lines = p.split_sign[q] > 0 ? f.above : f.below;
        auto const constraint = constraint_of(f, i, p.split_sign[q]);
        if (p.beta[q] < 0) p.beta[q] = first_beta(f, i, x, alpha[i], lines, constraint);
        float const beta = p.beta[q];
        std::size_t const c = f.column[i];
        row[c] = x;
        out[c] = x * (x >= 0 ? lines.lower_slope[i] : lines.upper_slope[i]) + beta * constraint.slope;
        value += static_cast<double>(x) * static_cast<double>(x >= 0 ? lines.lower_shift[i] : lines.upper_shift[i]);
        value += static_cast<double>(beta) * static_cast<double>(constraint.shift);
        slack += static_cast<double>(std::fabs(x)) * static_cast<double>(f.error[i]);
        slack += static_cast<double>(beta) * static_cast<double>(f.split_error[i]) + 4 * float_floor * s.reach[c];
      });
      if (!counts) continue;  // another rank does for all
      rows.value[r] += value;
      if constexpr (R::outward) {
        double const share = 1 + gamma(4 * live + 256, unit_double);
        rows.slack[r] = up::add(rows.slack[r], slack * share + s.floor[0] + 2 * unit_double * std::fabs(rows.value[r]));
      }
    }
  });
}

/// The relaxed forward pass at one stage. `a` [r, live] holds the coefficients of the output and receives the
/// deviation y - centre of the output at the row's minimising corner; `d` [r, live] is the deviation t - origin of the
/// head there, and is spent. Parameters and multipliers climb. Not sound and need not be: it only finds parameters.
///
/// The bound is linear in each parameter while the signs of A stay, so its derivative is A times the derivative of the
/// line at the corner (Danskin); the multiplier of a constraint sees the constraint's own value.
inline void climb_rows(row_block const& rows, stage_state const& s, free_columns const& f, free_rows const& p,
                       adam_step const& adam, float* a, float* d) {
  std::size_t const live = s.live_count;
  free_side const low = side_of(f, true), high = side_of(f, false);
  parallel_ranges(rows.count, 1, 8 * live, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float* const row = a + r * live;
      float* const head = d + r * live;
      bool const climbs = p.climbs(r);
      detail::hold_splits(p, f, r, row);
      detail::for_splits(p, f, r, [&](std::size_t q, std::size_t i) {
        line_arrays const& lines = p.split_sign[q] > 0 ? f.above : f.below;
        auto const constraint = constraint_of(f, i, p.split_sign[q]);
        float& t = head[f.column[i]];
        bool const positive = p.held[q] >= 0;
        float const y = (positive ? lines.lower_slope[i] : lines.upper_slope[i]) * t +
                        (positive ? lines.lower_shift[i] : lines.upper_shift[i]);
        if (climbs) {
          hull::climb(p.beta[q], p.beta_mean[q], p.beta_square[q], constraint.slope * t + constraint.shift,
                      adam.beta_rate, adam, 1e30f);
        }
        p.held[q] = y;
      });
      float* const alpha = p.alpha + r * p.width + f.offset;
      float* const mean = p.alpha_mean + r * p.width + f.offset;
      float* const square = p.alpha_square + r * p.width + f.offset;
      detail::for_pieces(f, [&](std::size_t i, std::size_t count, index_t const* column) {
        float at[detail::together], t[detail::together], y[detail::together], slope[detail::together];
        for (std::size_t j = 0; j < count; ++j) {
          at[j] = row[column[j]];
          t[j] = head[column[j]];
        }
        for (std::size_t j = 0; j < count; ++j) {
          float const x = at[j], share = alpha[i + j];
          y[j] = by_sign(x, low.slope(i + j, share), high.slope(i + j, share)) * t[j] +
                 static_cast<float>(by_sign(x, low.shift(i + j, share), high.shift(i + j, share)));
          slope[j] = x * by_sign(x, low.gradient(i + j, t[j]), high.gradient(i + j, t[j]));
        }
        for (std::size_t j = 0; j < count; ++j) head[column[j]] = y[j];
        if (!climbs) return;
        for (std::size_t j = 0; j < count; ++j)
          hull::climb(alpha[i + j], mean[i + j], square[i + j], slope[j], adam.alpha_rate, adam, 1.0f);
      });
      detail::for_splits(p, f, r, [&](std::size_t q, std::size_t i) { head[f.column[i]] = p.held[q]; });
      for (std::size_t c = 0; c < live; ++c) {
        float const x = row[c];
        row[c] = (f.mask[c] + by_sign(x, f.fixed.lower_slope[c], f.fixed.upper_slope[c])) * head[c] +
                 by_sign(x, f.fixed.lower_shift[c], f.fixed.upper_shift[c]);
      }
    }
  });
}

/// The same for a stage without free columns: no parameters, only the lines of the state.
inline void follow_rows(row_block const& rows, stage_state const& s, float* a, float const* d) {
  std::size_t const live = s.live_count;
  parallel_ranges(rows.count, 4, 2 * live, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first * live; i < last * live; ++i) {
      std::size_t const c = i % live;
      float const x = a[i];
      a[i] = by_sign(x, s.lower_slope[c], s.upper_slope[c]) * d[i] + by_sign(x, s.lower_shift[c], s.upper_shift[c]);
    }
  });
}

/// At the input: from coefficients to the deviation of the corner at which each row's bound is attained.
inline void minimise_rows(row_block const& rows, stage_state const& s, float* a) {
  std::size_t const live = s.live_count;
  parallel_ranges(rows.count, 4, 2 * live, [&](std::size_t first, std::size_t last) {
    for (std::size_t r = first; r < last; ++r) {
      float* const row = a + r * live;
      for (std::size_t c = 0; c < live; ++c) {
        float const x = row[c], reach = s.reach[c];
        row[c] = x > 0 ? -reach : x < 0 ? reach : 0.0f;
      }
    }
  });
}

}  // namespace hull::cpu
