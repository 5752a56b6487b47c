// SPDX-License-Identifier: Apache-2.0
// How many bytes a propagation takes: constants of the network, the method and a few numbers known before it runs.
//
// One arena holds everything: the state of all stages, the free columns (alpha-CROWN), and one region for rows, from
// which every chunk of rows is carved in turn. The region is as large as the largest chunk may be; ranks divide it.
#pragma once

#include <algorithm>
#include <cstddef>

#include <hull/core/arena.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/known_heads.hpp>
#include <hull/propagate/share.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// How the bounds of hidden neurons are computed.
enum class hidden_bounds { interval, crown, alpha_crown };

/// Optimised rows in a chunk, over all ranks, of hidden neurons and, unless asked otherwise, of specifications; more
/// are no faster on a CPU.
inline constexpr std::size_t most_climbing = 512;

/// Bytes for the rows of one chunk where nobody says otherwise. Machine M may want more, for its scratch.
template <class M = void>
[[nodiscard]] constexpr std::size_t default_row_bytes() {
  std::size_t bytes = std::size_t{256} << 20;
  if constexpr (requires { M::row_bytes_beside(); }) bytes += M::row_bytes_beside();
  return bytes;
}

/// What memory depends on beside the network and the machine.
struct memory_request final {
  static constexpr std::size_t unset = ~std::size_t{0};

  hidden_bounds method = hidden_bounds::crown;
  std::size_t boxes = 1;
  std::size_t row_bytes = unset;      // most for rows, all ranks together; memory_plan sets the default
  bool intersect = true;              // propagation::intersect_hidden
  std::size_t ranks = 1;              // that divide the rows, or their columns
  std::size_t threads = 1;            // of each rank
  std::size_t tasks = most_climbing;  // optimised specification rows in a chunk
};

namespace detail {

/// Floats of scratch that rows which start at stage S need on machine M, beside that of all rows.
template <class M, class S>
[[nodiscard]] constexpr std::size_t start_floats([[maybe_unused]] std::size_t boxes) {
  if constexpr (requires { M::template start_floats<S>(boxes); }) {
    return M::template start_floats<S>(boxes);
  } else {
    return 0;
  }
}

/// Floats that an optimised row which starts at the head of stage `start` takes for stage k; 0: one for each live
/// column. And what such rows need together.
template <class M>
[[nodiscard]] constexpr std::size_t climbing_floats([[maybe_unused]] std::size_t start,
                                                    [[maybe_unused]] std::size_t k) {
  if constexpr (requires { M::climbing_floats(start, k); }) return M::climbing_floats(start, k);
  return 0;
}
template <class M>
[[nodiscard]] constexpr std::size_t climbing_tables([[maybe_unused]] std::size_t start) {
  if constexpr (requires { M::climbing_tables(start); }) return M::climbing_tables(start);
  return 0;
}

}  // namespace detail

/// Bytes of a propagation of Net on machine M; everything is constexpr.
template <Network Net, class M>
struct memory_of final {
  static constexpr std::size_t last = stage_count<Net> - 1;
  static constexpr std::size_t row_group = 16;    // rows of a chunk are a multiple of this: buffers stay aligned
  static constexpr std::size_t most_forms = 128;  // specification rows in a chunk, or one for each box
  static constexpr std::size_t alignments = 16 * arena::alignment;

  [[nodiscard]] static constexpr std::size_t state(std::size_t boxes) { return network_state<Net>::bytes(boxes); }
  [[nodiscard]] static constexpr std::size_t free_columns(hidden_bounds method) {
    return method == hidden_bounds::alpha_crown ? free_state<Net>::bytes() : 0;
  }

  /// One row whose coefficients take `width` floats.
  [[nodiscard]] static constexpr std::size_t row(std::size_t width) {
    return width * sizeof(float) + 2 * sizeof(index_t) + sizeof(float) + 5 * sizeof(double);
  }
  /// One optimised row with this many coefficients over all stages, parameters and splits. `moments`: Adam's, too, and
  /// the best so far.
  [[nodiscard]] static constexpr std::size_t climbing_row(std::size_t columns, std::size_t width, std::size_t splits,
                                                          bool moments) {
    return (columns + (moments ? 4 : 1) * width + (moments ? 7 : 4) * splits) * sizeof(float) + 3 * sizeof(index_t) +
           sizeof(float) + 3 * sizeof(double) + sizeof(row_progress);
  }

  /// Beside the rows of a chunk that starts at stage K: scratch of the backward steps. Some machines need more for
  /// rows that start at the head of a certain stage (`M::start_floats`).
  [[nodiscard]] static constexpr std::size_t fixed(std::size_t start, std::size_t threads, std::size_t boxes) {
    std::size_t most = 0;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      if (K <= start) most = std::max(most, M::template scratch_floats<S>(threads));
      if (K == start) most = std::max(most, detail::start_floats<M, S>(boxes));
    });
    return most * sizeof(float) + alignments;
  }
  /// The same for optimised rows: scratch, in floats, and with it tables and what alignment may take, in bytes.
  [[nodiscard]] static constexpr std::size_t climbing_scratch(std::size_t threads) {
    std::size_t most = 0;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      most = std::max({most, M::template scratch_floats<S>(threads), M::template point_floats<S>(threads)});
      if (detail::climbing_tables<M>(K) > 0) most = std::max(most, detail::start_floats<M, S>(1));
    });
    return most;
  }
  [[nodiscard]] static constexpr std::size_t climbing_fixed(std::size_t threads) {
    std::size_t tables = 0;
    for (std::size_t k = 0; k <= last; ++k) tables = std::max(tables, detail::climbing_tables<M>(k));
    return (climbing_scratch(threads) + tables) * sizeof(float) + (stage_count<Net> + 32) * arena::alignment;
  }

  /// The region of one rank.
  [[nodiscard]] static constexpr std::size_t region(memory_request const& ask) {
    std::size_t const all = std::min(ask.row_bytes, wanted(ask));
    std::size_t const bytes = std::max(largest_share(all, ask.ranks), least(ask));
    return (bytes + arena::alignment - 1) / arena::alignment * arena::alignment;
  }

  /// Of the arena of one rank.
  [[nodiscard]] static constexpr std::size_t total(memory_request const& ask) {
    return state(ask.boxes) + free_columns(ask.method) + region(ask);
  }

 private:
  static constexpr bool climbs(memory_request const& ask) { return ask.method == hidden_bounds::alpha_crown; }

  static constexpr std::size_t climbing_columns(coefficient_plan<Net> const& layout, std::size_t start) {
    std::size_t sum = 0, widest = 0;
    for_each_stage<0, stage_count<Net>>([&]<std::size_t K> {
      if (!layout.reached(K)) return;
      std::size_t const part = detail::climbing_floats<M>(start, K);
      std::size_t const floats = part > 0 ? part : stage<Net, K>::size;
      sum += floats;
      widest = std::max(widest, floats);
    });
    return sum + widest;
  }

  /// What all rows that can be in flight take, on one rank.
  static constexpr std::size_t wanted(memory_request const& ask) {
    std::size_t const forms = std::max(most_forms, ask.boxes);
    std::size_t most =
        forms * row(plan_coefficients<Net>(last, true, true).width) + fixed(last, ask.threads, ask.boxes);
    std::size_t parameters = 0;  // of the stages before K
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      if constexpr (detail::needs_rows<Net, K>()) {
        auto const layout = plan_coefficients<Net, M>(K, false, false);
        std::size_t const rows = (ask.intersect ? 1 : 2) * S::size * ask.boxes;
        std::size_t const room = (rows + row_group - 1) / row_group * row_group;
        if (ask.method != hidden_bounds::interval)
          most = std::max(most, room * row(layout.width) + fixed(K, ask.threads, ask.boxes));
        std::size_t const climbing = std::min(2 * S::size, most_climbing);
        std::size_t const one = climbing_row(climbing_columns(layout, K), parameters, 0, true);
        if (climbs(ask)) most = std::max(most, climbing * one + climbing_fixed(ask.threads));
      }
      if constexpr (detail::has_kink<S>()) parameters += S::size;
    });
    if (climbs(ask)) {
      std::size_t const one = climbing_row(
          climbing_columns(plan_coefficients<Net>(last, true, true), row_block::anywhere), parameters, 0, true);
      most = std::max(most, ask.tasks * one + climbing_fixed(ask.threads));
    }
    return most;
  }

  /// What the smallest chunk takes, and the other users of the region: forward steps, and exchanges between ranks.
  static constexpr std::size_t least(memory_request const& ask) {
    std::size_t width = 0, most = 0, widest = 0, stages = 0, scratch = 0;
    for (std::size_t k = 0; k <= last; ++k) {
      // first fit: a plan with fewer buffers is not always the narrower one
      width = std::max({width, plan_coefficients<Net, M>(k, false, false).width,
                        plan_coefficients<Net>(k, true, false).width, plan_coefficients<Net>(k, true, true).width});
      scratch = std::max(scratch, fixed(k, ask.threads, ask.boxes));
    }
    for_each_stage<0, stage_count<Net>>([&]<std::size_t K> {
      using S = stage<Net, K>;
      stages += S::size;
      widest = std::max(widest, S::size);
      if constexpr (K > 0) most = std::max(most, M::template forward_floats<S>(ask.boxes, ask.threads) * sizeof(float));
    });
    most += arena::alignment;
    if (ask.ranks > 1) most = std::max(most, 2 * (widest * ask.boxes + ask.ranks) * sizeof(float) + arena::alignment);
    most = std::max(most, row_group * row(width) + scratch);
    if (!climbs(ask)) return most;
    std::size_t const all = free_state<Net>::most();
    return std::max(most, 2 * climbing_row(stages + widest, all, all, true) + climbing_fixed(ask.threads));
  }
};

}  // namespace hull
