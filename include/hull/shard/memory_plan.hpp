// SPDX-License-Identifier: Apache-2.0
// All memory of one rank, known when the program is compiled:
//
//   constexpr auto plan = memory_plan<network, hidden_bounds::crown, on<cpu::backend, FullySharded>, 4>();
//   static_assert(plan.peak_bytes() < 1 << 30);
//
// The arena takes exactly what is planned here, neither more nor less (tests/shard).
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <hull/propagate/memory.hpp>
#include <hull/scalar/rounding.hpp>
#include <hull/shard/on.hpp>

namespace hull {

/// A buffer and the stages from whose bounds on, and up to which, it is held.
struct planned_buffer final {
  std::string_view name;
  std::size_t bytes = 0;
  std::size_t first = 0, last = 0;
  bool in_arena = true;
};

/// What one rank holds.
template <std::size_t Stages>
struct planned_memory final {
  std::array<planned_buffer, Stages + 5> buffers{};
  std::size_t count = 0;

  constexpr void add(planned_buffer const& one) {
    if (one.bytes > 0) buffers[count++] = one;
  }

  /// Of all buffers. None of them ends before the last stage's bounds are known: what comes and goes shares one region.
  [[nodiscard]] constexpr std::size_t peak_bytes() const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += buffers[i].bytes;
    return sum;
  }
  [[nodiscard]] constexpr std::size_t arena_bytes() const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += buffers[i].in_arena ? buffers[i].bytes : 0;
    return sum;
  }
};

/// Of bounding one batch of boxes. `ask.ranks` and `ask.method` are set from the template's arguments.
template <Network Net, hidden_bounds Method, class On, std::size_t Ranks = 1>
[[nodiscard]] constexpr auto memory_plan(memory_request ask = {}) {
  using net = typename On::template network<Net, Ranks>;
  using machine = typename On::template machine<net, Outward>;
  using sizes = memory_of<net, machine>;
  constexpr std::size_t last = stage_count<net> - 1;
  ask.method = Method;
  ask.ranks = Ranks;
  if (ask.row_bytes == memory_request::unset) ask.row_bytes = default_row_bytes<machine>();
  planned_memory<stage_count<net>> plan;
  if constexpr (requires { typename On::template weights<net>::sharded; }) {
    auto const bytes = held_bytes<net, machine>(Ranks);
    plan.add({"parameters, this rank's part", bytes.at_rest(), 0, last, false});
    plan.add({"parameters, two blocks of all ranks", bytes.buffers, 0, last, false});
  } else {
    plan.add({"parameters", parameters<net>::size * sizeof(float), 0, last, false});
  }
  std::size_t stages = 0;
  for_each_stage<0, stage_count<net>>([&]<std::size_t K> {
    std::size_t const bytes = network_state<net>::template stage_bytes<K>(ask.boxes);
    stages += bytes;
    plan.add({"bounds and relaxations of a stage", bytes, K, last});
  });
  plan.add({"list of unstable neurons", sizes::state(ask.boxes) - stages, 0, last});
  plan.add({"free columns (alpha)", sizes::free_columns(Method), 0, last});
  plan.add({"rows: coefficients, alpha, moments, scratch", sizes::region(ask), 0, last});
  return plan;
}

}  // namespace hull
