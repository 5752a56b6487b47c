// SPDX-License-Identifier: Apache-2.0
// Where the coefficients of each stage lie while rows travel from a start stage to the input: live ranges, first fit.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <hull/net/fuse.hpp>

namespace hull {

/// Offsets in floats per row; multiply by the number of rows of a chunk.
template <Network Net>
struct coefficient_plan final {
  static constexpr std::size_t count = stage_count<Net>;
  static constexpr std::size_t nowhere = ~std::size_t{0};

  std::array<std::size_t, count> offset{};  // `nowhere` if no row gets there
  std::array<std::size_t, count> writer{};  // the stage that contributes first
  std::size_t width = 0;                    // floats per row

  [[nodiscard]] constexpr bool reached(std::size_t k) const { return offset[k] != nowhere; }
};

/// Floats that a row which starts at the head of stage `start` takes for stage k: one for each element, or what machine
/// M says, where it keeps only the part of a stage that such rows reach.
template <Network Net, class M>
[[nodiscard]] constexpr std::size_t coefficient_floats([[maybe_unused]] std::size_t start, std::size_t k) {
  if constexpr (requires { M::coefficient_floats(start, k); }) {
    return M::coefficient_floats(start, k);
  } else {
    return stage_table_of<Net>.stage[k].size;
  }
}

/// Plan for rows that start at the head of stage `start`, or, if `at_output`, at the output of stage `start`.
/// `with_input`: the rows also have coefficients of the input from the beginning. `M`: the machine that moves the rows;
/// without one, and for rows that start at an output, every stage takes all its elements.
template <Network Net, class M = void>
[[nodiscard]] constexpr coefficient_plan<Net> plan_coefficients(std::size_t start, bool at_output, bool with_input) {
  constexpr auto const& table = stage_table_of<Net>;
  coefficient_plan<Net> plan;
  plan.offset.fill(coefficient_plan<Net>::nowhere);
  plan.writer.fill(coefficient_plan<Net>::nowhere);
  std::array<bool, coefficient_plan<Net>::count> live{};
  std::array<std::size_t, coefficient_plan<Net>::count> floats{};
  for (std::size_t k = 0; k <= start; ++k) {
    floats[k] = at_output ? table.stage[k].size : coefficient_floats<Net, M>(start, k);
  }

  auto const place = [&](std::size_t k) {
    std::size_t at = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t other = 0; other < live.size(); ++other) {
        if (!live[other] || at + floats[k] <= plan.offset[other]) continue;
        if (at >= plan.offset[other] + floats[other]) continue;
        at = plan.offset[other] + floats[other];
        moved = true;
      }
    }
    plan.offset[k] = at;
    plan.width = std::max(plan.width, at + floats[k]);
    live[k] = true;
  };

  if (at_output) place(start);
  if (with_input && start != 0) place(0);
  for (std::size_t k = start; k > 0; --k) {
    if (k != start && !plan.reached(k)) continue;
    for (std::size_t i = 0; i < table.stage[k].input_count; ++i) {
      std::size_t const from = table.stage[k].inputs[i];
      if (plan.reached(from)) continue;
      place(from);
      plan.writer[from] = k;
    }
    live[k] = false;
  }
  return plan;
}

/// Which contributions of a head's operands come first: those overwrite, the others add.
template <class S>
using overwrite_flags = std::array<bool, S::input_count>;

/// Those of stage S under a plan.
template <class S>
[[nodiscard]] constexpr overwrite_flags<S> overwrites(coefficient_plan<typename S::net> const& layout) {
  overwrite_flags<S> flags{};
  auto const& inputs = S::info.inputs;
  for (std::size_t i = 0; i < S::input_count; ++i) {
    bool const repeated = std::find(inputs.begin(), inputs.begin() + i, inputs[i]) != inputs.begin() + i;
    flags[i] = layout.writer[inputs[i]] == S::number && !repeated;
  }
  return flags;
}

}  // namespace hull
