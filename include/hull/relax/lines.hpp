// SPDX-License-Identifier: Apache-2.0
// The relaxation of a pointwise function on an interval: one line below it, one above.
#pragma once

#include <hull/core/config.hpp>

namespace hull {

/// slope * t + bias
template <class T>
struct line {
  T slope;
  T bias;
};

/// lower(t) <= f(t) <= upper(t) for every real t of the interval the lines were made for,
/// where both lines are evaluated in exact real arithmetic.
template <class T>
struct lines {
  line<T> lower;
  line<T> upper;
};

}  // namespace hull
