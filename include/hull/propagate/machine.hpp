// SPDX-License-Identifier: Apache-2.0
// What propagation asks of a machine. A backend runs the steps; a sharding policy stands between (who holds which
// weights, which rows); propagation itself names neither.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <span>

#include <hull/core/arena.hpp>
#include <hull/core/deadline.hpp>
#include <hull/propagate/coefficients.hpp>
#include <hull/propagate/share.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// A specification row: the linear form of `form` over the box number `box` of the batch.
struct row_form final {
  index_t box = 0;
  linear_constraint const* form = nullptr;
};

/// Coefficient buffers by stage, each [rows, live columns of the stage]; null where no row gets. Of rows that name
/// their start, a machine may keep a part only, in a form of its own (coefficient_floats).
template <Network Net>
using coefficient_views = std::array<float*, stage_count<Net>>;

/// The steps of a propagation on stage S of network Net. All pointers of state and rows point into memory().
template <class M, class Net>
concept Machine = Network<Net> &&
    requires(M machine, network_state<Net> state, row_block rows, coefficient_views<Net> a,
             std::span<row_form const> forms, std::span<disjunct const> cases, std::size_t n, bool mine,
             deadline const& end, double* bounds) {
  { machine.memory() } -> std::same_as<arena&>;
  // A machine's memory is its own. The host sees
  { machine.bounds(rows) } -> std::convertible_to<double const*>;  // the bounds of rows that have come to the input,
  machine.read(bounds, bounds, n);                                 // copies of numbers, to the host
  machine.write(bounds, bounds, n);                                // and from it
  machine.clear(bounds, n);
  // and by  machine.fetch(from, n, buffer)  n floats, in `buffer` if they must be copied; of arrays [r, width],
  //   machine.read_rows<T>(from, width, rows, f) calls f(i, row rows[i]), from any thread; T: float, or packed_alpha
  //   machine.write_rows(to, width, sources)     fills row r from sources[r], floats or packed
  //   machine.score_rows(...)                    as ended_rows::score has it
  // and  machine.for_each(n, work, body)         calls body(i), i < n, of about `work` operations, from any thread
  // Optimised rows go on without the host for up to M::steps_at_once steps (row_climber::pause_after):
  //   machine.note_bounds(rows, parameters, patience, last), and for the two rows of hidden neurons note_pairs, note
  //   bounds in parameters.progress, keep the best parameters and say which rows have ended.

  // Ranks: all run the same steps in the same order on rows of their own.
  { machine.share(n) } -> std::same_as<row_range>;    // the rows of n that this rank computes
  { machine.most(n) } -> std::same_as<std::size_t>;   // and the most that any rank computes
  { machine.least(n) } -> std::same_as<std::size_t>;  // of those that work on the same rows
  { machine.any(mine, end) } -> std::same_as<bool>;   // whether any rank says yes; throws deadline_passed, all or none
  machine.poll(end);                                  // the same where ranks may differ: alone, or not at all
  machine.gather(bounds, n);                          // n numbers, of which each rank has computed its share
  machine.add_ranks(bounds, n);                       // sums over the ranks that divide rows
  machine.add_parts(bounds, n);                       // sums over those that divide neurons, and so have the same rows
};

}  // namespace hull
