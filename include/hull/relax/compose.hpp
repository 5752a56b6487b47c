// SPDX-License-Identifier: Apache-2.0
// Lines of f after g from the lines of f and of g, sound in floating point.
#pragma once

#include <hull/core/config.hpp>
#include <hull/relax/lines.hpp>
#include <hull/scalar/interval.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

namespace detail {

/// A line of floats below outer(inner(t)) for t in `domain`; both arguments are exact lines.
/// The product of the slopes is rounded once; what that changes over the domain is moved into the bias.
HULL_FN inline line<float> compose_below(line<float> outer, line<float> inner, interval<float> domain) {
  double const slope = static_cast<double>(outer.slope) * static_cast<double>(inner.slope);  // exact: 48 bits
  float const rounded = static_cast<float>(slope);
  double const rest = slope - static_cast<double>(rounded);  // exact
  double const at_lower = down::mul(rest, static_cast<double>(domain.lower));
  double const at_upper = down::mul(rest, static_cast<double>(domain.upper));
  double const least = at_lower < at_upper ? at_lower : at_upper;
  double const bias =
      down::fma(static_cast<double>(outer.slope), static_cast<double>(inner.bias), static_cast<double>(outer.bias));
  return {rounded, down::from_double(down::add(bias, least))};
}

}  // namespace detail

/// Lines of f(g(t)) on `domain`, where `outer` are lines of f on an interval that contains g(domain), `inner` those of
/// g.
HULL_FN inline lines<float> compose(lines<float> outer, lines<float> inner, interval<float> domain) {
  auto const below = outer.lower.slope >= 0 ? inner.lower : inner.upper;
  auto const above = outer.upper.slope >= 0 ? inner.upper : inner.lower;
  auto const negated = detail::compose_below({-outer.upper.slope, -outer.upper.bias}, above, domain);
  return {detail::compose_below(outer.lower, below, domain), {-negated.slope, -negated.bias}};
}

}  // namespace hull
