// SPDX-License-Identifier: Apache-2.0
// Values of a network at points as narrow intervals, from the CPU's interval arithmetic: for tests that nvcc compiles,
// which cannot take reference.hpp's evaluate.
#pragma once

#include <vector>

#include "ranks.hpp"

namespace hull::reference {

template <Network Net>
class point_values final {
 public:
  explicit point_values(parameter_map const& p) : weights_(p), machine_(weights_), all_(machine_) {}

  /// Intervals of all heads at one point; the reference is good until the next call.
  [[nodiscard]] network_state<Net> const& at(std::vector<double> const& x) {
    box_.clear();
    for (double const value : x) box_.push_back({value, value});
    box_type const* view = &box_;
    all_.run_intervals({&view, 1});
    return all_.state();
  }
  /// Outputs, to the nearest float.
  [[nodiscard]] std::vector<long double> outputs(std::vector<double> const& x) {
    auto const& last = at(x).stage.back();
    return {last.centre, last.centre + last.size};
  }

 private:
  parameters<Net> weights_;
  cpu::machine<Net, Outward> machine_;
  propagation<Net, cpu::machine<Net, Outward>> all_;
  box_type box_;
};

}  // namespace hull::reference
