// SPDX-License-Identifier: Apache-2.0
// exp, tanh and the logistic function with a direction: up:: never less than the exact value, down:: never more.
//
// Everything is computed in double by the standard library and moved outwards by a relative margin of 2^-48, which is
// 32 units of double's rounding error. It is enough if exp and tanh err by at most 2 ulp (4 units): glibc and CUDA
// document 1 for exp and 2 for tanh. The longest chain, sigmoid_slope, then errs by 12 units. The float versions narrow
// the double ones; they return the float next to the exact value unless that lies within 2^-48 of a float.
// docs/soundness_scalar.md has the sums. NaN stays NaN; infinities give the limits.
#pragma once

#include <cmath>

#include <hull/core/config.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {
namespace detail {

inline constexpr double margin = 0x1p-48;

// exp is a normal double on [-exp_range, exp_range], so errors there are relative ones.
inline constexpr double exp_range = 700;

// For 0 < |x| <= 2^-30 tanh(x) lies strictly between x and its neighbour towards zero, since |x|^3 / 3 is less than a
// quarter of the step between them.
inline constexpr double tanh_linear = 0x1p-30;

HULL_FN inline double raised(double x) { return x + std::fabs(x) * margin; }
HULL_FN inline double lowered(double x) { return x - std::fabs(x) * margin; }

/// 1 / (1 + e^-x), for x >= -exp_range within 8 units of rounding.
HULL_FN inline double logistic(double x) {
  double const e = std::exp(-std::fabs(x));
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

/// Its derivative, for |x| <= exp_range within 12 units of rounding.
HULL_FN inline double logistic_slope(double x) {
  double const e = std::exp(-std::fabs(x));
  return e / ((1 + e) * (1 + e));
}

}  // namespace detail

namespace up {

/// e^x
HULL_FN inline double exp(double x) {
  return detail::raised(std::exp(x < -detail::exp_range ? -detail::exp_range : x));
}
HULL_FN inline float exp(float x) { return from_double(exp(static_cast<double>(x))); }

/// 1 / (1 + e^-x), at most 1
HULL_FN inline double sigmoid(double x) {
  double const above = detail::raised(detail::logistic(x < -detail::exp_range ? -detail::exp_range : x));
  return above > 1 ? 1 : above;
}
HULL_FN inline float sigmoid(float x) { return from_double(sigmoid(static_cast<double>(x))); }

/// The derivative of sigmoid
HULL_FN inline double sigmoid_slope(double x) {
  double const size = std::fabs(x);
  return detail::raised(detail::logistic_slope(size > detail::exp_range ? detail::exp_range : size));
}

/// (e^x - e^-x) / (e^x + e^-x), at most 1
HULL_FN inline double tanh(double x) {
  if (std::fabs(x) <= detail::tanh_linear) return x < 0 ? next(x) : x;
  double const above = detail::raised(std::tanh(x));
  return above > 1 ? 1 : above;
}
HULL_FN inline float tanh(float x) { return from_double(tanh(static_cast<double>(x))); }

}  // namespace up

namespace down {

/// e^x; for x beyond the range of double a large number, not infinity
HULL_FN inline double exp(double x) {
  if (x < -detail::exp_range) return 0;
  return detail::lowered(std::exp(x > detail::exp_range ? detail::exp_range : x));
}
HULL_FN inline float exp(float x) { return from_double(exp(static_cast<double>(x))); }

/// 1 / (1 + e^-x), at least 0
HULL_FN inline double sigmoid(double x) { return x < -detail::exp_range ? 0 : detail::lowered(detail::logistic(x)); }
HULL_FN inline float sigmoid(float x) { return from_double(sigmoid(static_cast<double>(x))); }

/// The derivative of sigmoid, at least 0
HULL_FN inline double sigmoid_slope(double x) {
  return std::fabs(x) > detail::exp_range ? 0 : detail::lowered(detail::logistic_slope(x));
}

/// (e^x - e^-x) / (e^x + e^-x), at least -1
HULL_FN inline double tanh(double x) { return -up::tanh(-x); }
HULL_FN inline float tanh(float x) { return -up::tanh(-x); }

}  // namespace down
}  // namespace hull
