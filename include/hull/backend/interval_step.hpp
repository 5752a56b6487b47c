// SPDX-License-Identifier: Apache-2.0
// The forward step that all affine heads share: from sums in double to a sound interval of the head.
#pragma once

#include <cmath>
#include <cstddef>

#include <hull/core/config.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/propagate/state.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

/// Sums over the terms of one element, x = centre of the operand, r = its spread, each with `terms` roundings at most.
struct affine_sums final {
  double centre = 0;     // sum w x + bias
  double magnitude = 0;  // sum |w x| + |bias|
  double radius = 0;     // sum |w| r
};

/// Stores element i of the head. `share`: relative error of the sums. `rounded`: the weights are the nearest floats of
/// what the network has.
template <class R>
HULL_FN inline void store_interval(stage_state const& s, std::size_t i, affine_sums sum, double share, bool rounded) {
  if constexpr (R::outward) {
    double error = share * sum.magnitude;
    double radius = sum.radius * (1 + share);
    if (rounded) {
      error += 2 * unit_float * sum.magnitude;
      radius *= 1 + 2 * unit_float;
    }
    s.origin[i] = sum.centre;
    s.origin_error[i] = up::from_double(error);
    s.radius[i] = up::from_double(radius);
    double const reach = up::add(static_cast<double>(s.radius[i]), static_cast<double>(s.origin_error[i]));
    s.lower[i] = down::from_double(down::sub(sum.centre, reach));
    s.upper[i] = up::from_double(up::add(sum.centre, reach));
  } else {
    s.origin[i] = sum.centre;
    s.origin_error[i] = 0;
    s.radius[i] = static_cast<float>(sum.radius);
    s.lower[i] = static_cast<float>(sum.centre - sum.radius);
    s.upper[i] = static_cast<float>(sum.centre + sum.radius);
  }
}

template <class R>
HULL_FN inline void store_interval(stage_state const& s, std::size_t i, affine_sums sum, std::size_t terms,
                                   bool rounded) {
  store_interval<R>(s, i, sum, gamma_sum(terms), rounded);
}

/// Stores all elements of the head for every box: `sums` [batch, size], to which bias(element) is added.
template <class R, class Bias>
void store_intervals(stage_state const& s, std::size_t batch, affine_sums const* sums, Bias&& bias, std::size_t terms,
                     bool rounded) {
  for (std::size_t i = 0; i < batch * s.size; ++i) {
    double const constant = bias(i % s.size);
    affine_sums const& one = sums[i];
    store_interval<R>(s, i, {one.centre + constant, one.magnitude + std::fabs(constant), one.radius}, terms, rounded);
  }
}

/// The same under `Nearest` from sums in single precision, both [batch, size]. No `radius`: all boxes are points.
template <class Bias>
void store_intervals(stage_state const& s, std::size_t batch, float const* centre, float const* radius, Bias&& bias) {
  for (std::size_t i = 0; i < batch * s.size; ++i) {
    affine_sums const sum{static_cast<double>(centre[i]) + bias(i % s.size), 0, radius == nullptr ? 0.0 : radius[i]};
    store_interval<Nearest>(s, i, sum, std::size_t{0}, false);
  }
}

}  // namespace hull
