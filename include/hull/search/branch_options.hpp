// SPDX-License-Identifier: Apache-2.0
// Settings and results of branch and bound over kinks.
#pragma once

#include <cstddef>

#include <hull/propagate/free.hpp>

namespace hull {

/// What a search over one box came to.
enum class search_end { refuted, counterexample, gave_up };

/// Settings that the command line does not offer.
struct branch_options final {
  bool roots_only = false;  // alpha-CROWN without splits
  std::size_t batch = 64;   // domains split in one round: the machine's domains_at_once
  ascent root{.steps = 20, .alpha_rate = 0.1, .beta_rate = 0, .decay = 0.98, .patience = 10};
  // large steps that shrink fast: a warm start is left at once, and found again
  ascent child{.steps = 20, .alpha_rate = 0.1, .beta_rate = 0.05, .decay = 0.8, .patience = 20};
  // far from the root a bound that is not converged costs whole subtrees
  ascent deep{.steps = 60, .alpha_rate = 0.1, .beta_rate = 0.05, .decay = 0.97, .patience = 20};
  std::size_t deep_from = 12;  // splits
  // nothing left to split: begins with the multipliers of a linear program
  ascent leaf{.steps = 100, .alpha_rate = 0.02, .beta_rate = 0.01, .decay = 0.95, .patience = 20};
  // boxes with few coordinates: a search that does not end soon begins again on both halves, with tighter hidden bounds
  std::size_t cut_inputs = 8;    // most coordinates
  std::size_t cut_after = 1000;  // domains
  std::size_t most_cuts = 60;    // one inside the other
  // the attack on what the root leaves open begins before this round: it costs more than the first few domains, which
  // often are all there is
  std::size_t attack_round = 5;
  std::size_t corners = 32;  // minimisers attacked at a time, in rounds 1, 2, 4, ... and every 64th
  std::size_t corner_steps = 12;
};

}  // namespace hull
