// SPDX-License-Identifier: Apache-2.0
// Free parameters of relaxations (alpha), constraints of branch and bound (splits) with their multipliers (beta), and
// where rows keep them.
//
// A neuron is free if its tail has a kink that its interval straddles. Two pairs of lines bracket it, `zero` and `one`;
// so does every mean of the two: parameter alpha in [0, 1]. On either side of the kink it has lines of its own.
//
// Letters: n element of a stage, c live column, f free column, r row, p parameter of a row, q split of a row.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <hull/core/arena.hpp>
#include <hull/core/config.hpp>
#include <hull/net/fuse.hpp>
#include <hull/ops/op.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

namespace detail {

/// Whether the tail of stage S has an operator with a kink.
template <class S>
consteval bool has_kink() {
  bool found = false;
  S::for_each_tail(
      [&]<std::size_t I> { found = found || Kinked<typename graph<typename S::net>::template op<I>::element>; });
  return found;
}

}  // namespace detail

/// Lines in centred form: lower_slope (t - origin) + lower_shift <= y - centre, upper alike.
struct line_arrays final {
  float* lower_slope = nullptr;
  float* upper_slope = nullptr;
  float* lower_shift = nullptr;
  float* upper_shift = nullptr;

  constexpr void carve(arena& memory, std::size_t count) {
    for (float** one : {&lower_slope, &upper_slope, &lower_shift, &upper_shift}) *one = memory.take<float>(count);
  }
};

/// The free columns of one stage, for a batch of one box.
struct free_columns final {
  std::size_t count = 0;
  std::size_t offset = 0;        // number of the first one's parameter in a row
  bool present = false;          // whether any rank that works on the same rows has free columns here
  index_t* column = nullptr;     // [f] live column
  line_arrays zero, one;         // [f] lines for parameter 0 and for parameter 1
  line_arrays above, below;      // [f] lines where the argument z of the kink is >= 0, and where it is <= 0
  line_arrays kink;              // [f] z itself, from below and from above; shifts are not taken from a centre
  float* start = nullptr;        // [f] the parameter that gives CROWN's lines
  float* error = nullptr;        // [f] what rounding can cost per unit of |A|
  float* split_error = nullptr;  // [f] and per unit of beta
  float* gap = nullptr;          // [f] distance of the lines at the kink
  float* ratio = nullptr;        // [f] where the kink divides the interval of z: u / (u - l)
  float* bias = nullptr;         // [f] constant of z as a function of the head's operands

  // What all rows have in common: the lines of the other columns, zero in free columns.
  line_arrays fixed;             // [c]
  float* fixed_error = nullptr;  // [c]
  float* mask = nullptr;         // [c] 1 in free columns, else 0

  constexpr void carve(arena& memory, std::size_t size) {
    column = memory.take<index_t>(size);
    for (line_arrays* lines : {&zero, &one, &above, &below, &kink, &fixed}) lines->carve(memory, size);
    for (float** array : {&start, &error, &split_error, &gap, &ratio, &bias, &fixed_error, &mask}) {
      *array = memory.take<float>(size);
    }
  }
};

/// Free columns of all stages.
template <Network Net>
struct free_state final {
  std::array<free_columns, stage_count<Net>> stage{};

  /// Number of parameters of rows that start behind stage `last`.
  [[nodiscard]] std::size_t width(std::size_t last) const { return stage[last].offset + stage[last].count; }

  /// Whether rows that start behind stage `behind` have parameters.
  [[nodiscard]] bool chooses(std::size_t behind) const {
    return std::any_of(stage.begin(), stage.begin() + static_cast<std::ptrdiff_t>(behind) + 1,
                       [](free_columns const& f) { return f.present; });
  }

  constexpr void carve(arena& memory) {
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      if constexpr (detail::has_kink<hull::stage<Net, K>>()) stage[K].carve(memory, hull::stage<Net, K>::size);
    });
  }
  [[nodiscard]] static constexpr std::size_t bytes() {
    arena counting;
    free_state{}.carve(counting);
    return counting.peak();
  }

  /// Most parameters that a row can have.
  [[nodiscard]] static constexpr std::size_t most() {
    std::size_t sum = 0;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      if constexpr (detail::has_kink<hull::stage<Net, K>>()) sum += hull::stage<Net, K>::size;
    });
    return sum;
  }
};

/// A constraint of branch and bound: the argument z of the kink with this parameter has  sign z >= 0.
struct split final {
  index_t parameter = 0;
  float sign = 1;

  [[nodiscard]] friend constexpr bool operator==(split const&, split const&) = default;
};

/// The multiplier of a new split: the first evaluation chooses the one that makes the bound no worse than without it.
inline constexpr float unset_beta = -1;

/// A parameter as domains of branch and bound keep it: any in [0, 1] is sound.
using packed_alpha = std::uint16_t;
[[nodiscard]] HULL_FN inline packed_alpha pack_alpha(float alpha) {
  return static_cast<packed_alpha>(mul_nearest(alpha, 65535.0f) + 0.5f);
}
[[nodiscard]] HULL_FN inline float unpack_alpha(packed_alpha alpha) { return static_cast<float>(alpha) / 65535.0f; }

/// How far an optimised row has come.
struct row_progress final {
  double best = -std::numeric_limits<double>::infinity();  // the best bound so far
  double goal = std::numeric_limits<double>::infinity();   // the row ends when its bound is greater
  index_t since = 0;                                       // steps since the best one
  index_t done = 0;                                        // not 0: it has ended, and its parameters stay

  static constexpr index_t ended = 1, settled = 2;  // settled: of hidden rows whose bounds help the neuron no more

  /// Notes the bound of one more evaluation, `last`: that no other follows. Returns whether it is better than all
  /// before.
  HULL_FN bool note(double bound, std::size_t patience, bool last) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    bool const better = bound > best;  // false for NaN
    if (better) best = bound;
    since = better ? 0 : since + 1;
    // a bound of +infinity can only come from overflow under `Nearest`
    bool const reached = best > goal && best < infinity;
    if (last || reached || since >= patience) done = ended;
    return better;
  }
};

/// The two rows of a hidden neuron, after both have noted a bound, end together.
HULL_FN inline void end_together(row_progress& lower, row_progress& upper, bool settled) {
  bool const ended = lower.done != 0 && upper.done != 0;
  lower.done = upper.done = settled ? row_progress::settled : ended ? row_progress::ended : 0;
}

/// Parameters of the rows of one chunk, and the moments of Adam (Kingma & Ba 2015). `width` parameters and room for
/// `splits` constraints in each row.
struct free_rows final {
  std::size_t width = 0;
  std::size_t splits = 0;
  float* alpha = nullptr;              // [r, p]
  float* alpha_mean = nullptr;         // [r, p]
  float* alpha_square = nullptr;       // [r, p]
  float* alpha_best = nullptr;         // [r, p] those of the best bound so far
  index_t* split_count = nullptr;      // [r]
  index_t* split_parameter = nullptr;  // [r, q]
  float* split_sign = nullptr;         // [r, q]
  float* beta = nullptr;               // [r, q]
  float* beta_mean = nullptr;          // [r, q]
  float* beta_square = nullptr;        // [r, q]
  float* beta_best = nullptr;          // [r, q]
  float* held = nullptr;               // [r, q] for kernels
  row_progress* progress = nullptr;    // [r] or null: all climb, and the host says when they end
  bool has_moments = false, has_best = false;

  /// `moments`: the rows climb; `keeps`: the best parameters of each are kept.
  constexpr void carve(arena& memory, std::size_t rows, bool moments, bool keeps) {
    alpha = memory.take<float>(rows * width);
    alpha_mean = memory.take<float>(moments ? rows * width : 0);
    alpha_square = memory.take<float>(moments ? rows * width : 0);
    alpha_best = memory.take<float>(keeps ? rows * width : 0);
    split_count = memory.take<index_t>(rows);
    split_parameter = memory.take<index_t>(rows * splits);
    for (float** array : {&split_sign, &beta, &held}) *array = memory.take<float>(rows * splits);
    for (float** array : {&beta_mean, &beta_square}) *array = memory.take<float>(moments ? rows * splits : 0);
    beta_best = memory.take<float>(keeps ? rows * splits : 0);
    has_moments = moments;
    has_best = keeps;
  }

  [[nodiscard]] HULL_FN bool climbs(std::size_t r) const { return progress == nullptr || progress[r].done == 0; }

  /// The arrays that rows take along when they move, [r, width] and [r, splits]; null where there is none.
  [[nodiscard]] constexpr std::array<float*, 4> by_parameter() const {
    return {alpha, has_moments ? alpha_mean : nullptr, has_moments ? alpha_square : nullptr,
            has_best ? alpha_best : nullptr};
  }
  [[nodiscard]] constexpr std::array<float*, 5> by_split() const {
    return {split_sign, beta, has_moments ? beta_mean : nullptr, has_moments ? beta_square : nullptr,
            has_best ? beta_best : nullptr};
  }
};

/// How to climb. One step is an evaluation, a gradient and an update; the last evaluation comes after the last step.
struct ascent final {
  std::size_t steps = 20;
  double alpha_rate = 0.1;
  double beta_rate = 0.05;
  double decay = 0.98;        // of both rates in each step
  std::size_t patience = 10;  // a row ends after so many steps without a better bound
};

/// Adam's constants for one step, the same for all rows.
struct adam_step final {
  float alpha_rate = 0;  // with the correction of the first moment in it
  float beta_rate = 0;
  float correction = 1;  // of the second moment

  static constexpr float keep_mean = 0.9f, keep_square = 0.999f, floor = 1e-12f;
};

/// Those of one step; the first is 0.
[[nodiscard]] inline adam_step adam_at(ascent const& how, std::size_t step) {
  double const fade = std::pow(how.decay, static_cast<double>(step));
  double const mean_left = 1 - std::pow(static_cast<double>(adam_step::keep_mean), static_cast<double>(step + 1));
  double const square_left = 1 - std::pow(static_cast<double>(adam_step::keep_square), static_cast<double>(step + 1));
  return {static_cast<float>(how.alpha_rate * fade / mean_left), static_cast<float>(how.beta_rate * fade / mean_left),
          static_cast<float>(1 / square_left)};
}

}  // namespace hull
