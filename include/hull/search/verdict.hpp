// SPDX-License-Identifier: Apache-2.0
// What is asked of a verification and what comes back.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hull {

struct certificate;  // search/certificate.hpp

/// VNN-COMP's words: `unsat` the property holds, `sat` it has a counterexample.
enum class verdict { unsat, sat, unknown, timeout };

[[nodiscard]] constexpr std::string_view to_string(verdict v) {
  switch (v) {
    case verdict::unsat:
      return "unsat";
    case verdict::sat:
      return "sat";
    case verdict::timeout:
      return "timeout";
    case verdict::unknown:
      break;
  }
  return "unknown";
}

/// How to bound: interval arithmetic, CROWN, CROWN with optimised slopes where that does not settle it, branch and
/// bound where that does not either; or all of them in turn, cheapest first.
enum class bound_method { interval, crown, alpha_crown, branch, automatic };

/// What a search tells while it runs.
struct search_progress final {
  double seconds = 0;       // since the search began
  std::size_t domains = 0;  // bounded so far
  std::size_t open = 0;     // on the work list
  double margin = 0;        // smallest lower bound on the work list
  std::size_t bytes = 0;    // of the work list
};

struct verify_options final {
  bound_method method = bound_method::automatic;
  double timeout = std::numeric_limits<double>::infinity();  // seconds
  std::size_t memory_budget = std::size_t{1} << 30;          // bytes of the arena
  bool intersect_hidden = true;                              // see propagation::intersect_hidden
  std::uint64_t seed = 1;
  std::size_t restarts = 64;                                  // starting points of the attack for each case
  std::size_t steps = 60;                                     // gradient steps from each
  std::function<void(search_progress const&)> progress = {};  // called about twice a second
  std::atomic<bool> const* interrupt = nullptr;               // once true, verify() ends soon, as if time were up
  certificate* proof = nullptr;  // where to leave the proof of `unsat`; null: none is wanted
};

/// Decides whether inputs are a counterexample; the tool's own evaluation in double against the specification.
using confirm_function = std::function<bool(std::span<double const> inputs)>;

/// Bytes of one rank.
struct rank_memory final {
  std::size_t parameters = 0;  // at rest
  std::size_t buffers = 0;     // for blocks of other ranks' parameters
  std::size_t planned = 0;     // of the arena
  std::size_t peak = 0;        // what the arena really gave out
  std::size_t search = 0;      // most for the work list of branch and bound, and its arena where that is another one
  std::size_t driver = 0;      // of the device, as its driver sees it; 0 without one
  std::size_t resident = 0;    // of the process, as the system sees it; 0 if unknown
};

struct verify_report final {
  verdict answer = verdict::unknown;
  std::vector<double> counterexample;  // inputs; empty unless `sat`
  std::vector<double> margins;         // best lower bound of every constraint, in order of the specification
  std::size_t domains = 0;             // boxes bounded
  double bound_seconds = 0;
  double attack_seconds = 0;
  double tree_seconds = 0;        // branch and bound over kinks alone, from the root's attack on
  double kernel_seconds = 0;      // of tree_seconds, in which rows were bounded
  double search_seconds = 0;      // branch and bound, its attacks included
  std::size_t planned_bytes = 0;  // of the arena
  std::size_t peak_bytes = 0;     // what the arena really gave out
  std::size_t search_bytes = 0;   // of the work list of branch and bound, on this rank; as rank_memory::search
  std::string device_name;        // empty: the host
  std::vector<rank_memory> ranks;
};

/// Bounds of one value of the network, by node of the expression.
struct node_bounds final {
  std::size_t node = 0;
  std::vector<float> lower;
  std::vector<float> upper;
};

struct bounds_report final {
  std::vector<node_bounds> nodes;  // the pre-activation of every stage, then the output
  std::vector<double> rows;        // lower bounds of the specification's constraints
  std::vector<double> seconds;     // one for each repetition
  std::size_t planned_bytes = 0;
  std::size_t peak_bytes = 0;
  std::string device_name;  // empty: the host
  std::vector<rank_memory> ranks;
};

}  // namespace hull
