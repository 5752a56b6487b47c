// SPDX-License-Identifier: Apache-2.0
// What a propagation knows about every stage, and the rows that travel backward: plain views into one arena.
//
// Letters: b box of the batch, n element of a stage, c live column of a stage, r row.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <hull/core/arena.hpp>
#include <hull/net/fuse.hpp>

namespace hull {

using index_t = std::uint32_t;

/// Bounds of one stage over every box. t is the value of the head (the pre-activation), y the output of the stage.
struct stage_state final {
  std::size_t size = 0;

  // The head, as a function of its operands around their centres: t = origin + (t - origin), |t - origin| <= radius.
  float* lower = nullptr;         // [b, n] t >= lower
  float* upper = nullptr;         // [b, n] t <= upper
  double* origin = nullptr;       // [b, n] head at the centres of its operands
  float* origin_error = nullptr;  // [b, n] distance of `origin` from the exact value
  float* radius = nullptr;        // [b, n] interval arithmetic's radius of t around the exact origin

  // The output.
  float* centre = nullptr;  // [b, n] |y - centre| <= spread
  float* spread = nullptr;  // [b, n]

  // The relaxation in centred form, live columns only: lower_slope (t - origin) + lower_shift <= y - centre; upper
  // alike
  index_t* live = nullptr;  // [c] element of live column c
  index_t* slot = nullptr;  // [n] live column of an element, or `dead`
  std::size_t live_count = 0;
  float* lower_slope = nullptr;  // [b, c]
  float* upper_slope = nullptr;  // [b, c]
  float* lower_shift = nullptr;  // [b, c]
  float* upper_shift = nullptr;  // [b, c]
  float* lower_far = nullptr;    // [b, c] y - centre <= lower_slope (t - origin) + lower_far
  float* upper_far = nullptr;    // [b, c] y - centre >= upper_slope (t - origin) + upper_far
  float* error = nullptr;        // [b, c] what rounding can cost per unit of |A|
  float* reach = nullptr;        // [b, c] radius of the live columns

  double* floor = nullptr;         // [b] what underflow can cost a row that crosses this stage
  double* total_spread = nullptr;  // [b] sum of spread

  // Only for max heads.
  index_t* pick = nullptr;   // [b, n] input with the largest lower bound
  float* ceiling = nullptr;  // [b, n] largest upper bound, or -infinity where the pick is certainly the maximum

  static constexpr index_t dead = ~index_t{0};
};

/// Rows of one chunk. A row is a linear form over the values of some stages in centred form: its exact value is at
/// least value - slack + sum over stages of A (y - centre).
struct row_block final {
  static constexpr std::size_t anywhere = ~std::size_t{0};

  std::size_t count = 0;
  std::size_t start = anywhere;  // stage at whose head all rows start, if their buffers were planned for that
  index_t* box = nullptr;        // [r]
  index_t* index = nullptr;      // [r] neuron of the start stage, or number of the specification row
  float* sign = nullptr;         // [r] +1 for a lower bound, -1 for an upper bound (the row then bounds -t)
  double* value = nullptr;       // [r]
  double* slack = nullptr;       // [r]
  double* bound = nullptr;       // [r] result: lower bound of the row
  double* far_value = nullptr;   // [r] the same coefficients from above: the form's exact value is at most far_value +
  double* far_bound =
      nullptr;              // [r]   slack + sum A (y - centre); far_bound is that upper bound. Null where not wanted
  float* tables = nullptr;  // of optimised rows whose coefficients are not dense: the machine's (M::climbing_tables)
};

/// State of all stages for a batch of boxes.
template <Network Net>
struct network_state final {
  std::size_t batch = 0;
  std::array<stage_state, stage_count<Net>> stage{};
  index_t* candidates = nullptr;  // [b * n] unstable neurons of the stage at hand, as box * size + neuron

  /// Takes all buffers from `memory`, in a fixed order.
  constexpr void carve(arena& memory, std::size_t boxes) {
    batch = boxes;
    std::size_t widest = 0;
    for_each_stage<0, stage_count<Net>>([&]<std::size_t K> {
      widest = std::max(widest, boxes * hull::stage<Net, K>::size);
      carve_stage<K>(memory, boxes);
    });
    candidates = memory.take<index_t>(widest);
  }

  /// The same for one stage.
  template <std::size_t K>
  constexpr void carve_stage(arena& memory, std::size_t boxes) {
    using S = hull::stage<Net, K>;
    auto& s = stage[K];
    std::size_t const n = S::size, all = boxes * n;
    s.size = n;
    s.lower = memory.take<float>(all);
    s.upper = memory.take<float>(all);
    s.origin = memory.take<double>(all);
    s.origin_error = memory.take<float>(all);
    s.radius = memory.take<float>(all);
    s.centre = memory.take<float>(all);
    s.spread = memory.take<float>(all);
    s.live = memory.take<index_t>(n);
    s.slot = memory.take<index_t>(n);
    s.lower_slope = memory.take<float>(all);
    s.upper_slope = memory.take<float>(all);
    s.lower_shift = memory.take<float>(all);
    s.upper_shift = memory.take<float>(all);
    s.lower_far = memory.take<float>(all);
    s.upper_far = memory.take<float>(all);
    s.error = memory.take<float>(all);
    s.reach = memory.take<float>(all);
    s.floor = memory.take<double>(boxes);
    s.total_spread = memory.take<double>(boxes);
    if constexpr (HeadOf<typename S::head, max_head>) {
      s.pick = memory.take<index_t>(all);
      s.ceiling = memory.take<float>(all);
    }
  }

  template <std::size_t K>
  [[nodiscard]] static constexpr std::size_t stage_bytes(std::size_t boxes) {
    arena counting;
    network_state{}.carve_stage<K>(counting, boxes);
    return counting.peak();
  }

  /// Bytes that `carve` takes.
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t boxes) {
    arena counting;
    network_state{}.carve(counting, boxes);
    return counting.peak();
  }
};

}  // namespace hull
