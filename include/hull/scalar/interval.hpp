// SPDX-License-Identifier: Apache-2.0
// A closed interval and its outward-rounded arithmetic.
#pragma once

#include <algorithm>
#include <concepts>
#include <limits>

#include <hull/core/config.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull {

/// The reals t with lower <= t <= upper. A result of arithmetic has no NaN: where nothing is known it is
/// everything<T>(). An interval whose ends are out of order, or NaN, is empty to `is_empty` and to `contains`, and as
/// an operand of arithmetic it stands for "nothing known", so a wrong bound never turns into a proof.
template <std::floating_point T>
struct interval {
  T lower;
  T upper;

  friend bool operator==(interval const&, interval const&) = default;
};

/// All reals.
template <std::floating_point T>
HULL_FN constexpr interval<T> everything() {
  return {-std::numeric_limits<T>::infinity(), std::numeric_limits<T>::infinity()};
}

/// The interval of one number.
template <std::floating_point T>
HULL_FN constexpr interval<T> point(T x) {
  return {x, x};
}

/// The one interval that is exactly x in double.
HULL_FN constexpr interval<double> widen(interval<float> x) {
  return {static_cast<double>(x.lower), static_cast<double>(x.upper)};
}

/// The least interval of floats around x.
HULL_FN inline interval<float> narrow(interval<double> x) {
  return {down::from_double(x.lower), up::from_double(x.upper)};
}

template <std::floating_point T>
HULL_FN constexpr bool is_empty(interval<T> x) {
  return !(x.lower <= x.upper);
}

/// Both ends are numbers.
template <std::floating_point T>
HULL_FN constexpr bool is_finite(interval<T> x) {
  return x.lower >= std::numeric_limits<T>::lowest() && x.lower <= std::numeric_limits<T>::max() &&
         x.upper >= std::numeric_limits<T>::lowest() && x.upper <= std::numeric_limits<T>::max();
}

template <std::floating_point T>
HULL_FN constexpr bool contains(interval<T> x, T t) {
  return x.lower <= t && t <= x.upper;
}

/// Every point of `inner` is in `outer`.
template <std::floating_point T>
HULL_FN constexpr bool contains(interval<T> outer, interval<T> inner) {
  return outer.lower <= inner.lower && inner.upper <= outer.upper;
}

/// The least interval that has both; `everything` if either is empty or unknown.
template <std::floating_point T>
HULL_FN constexpr interval<T> join(interval<T> x, interval<T> y) {
  if (is_empty(x) || is_empty(y)) return everything<T>();
  return {x.lower < y.lower ? x.lower : y.lower, x.upper > y.upper ? x.upper : y.upper};
}

/// The points in both; empty when there are none. Of two ends the one that is a number wins over NaN.
template <std::floating_point T>
HULL_FN constexpr interval<T> meet(interval<T> x, interval<T> y) {
  return {x.lower >= y.lower || y.lower != y.lower ? x.lower : y.lower,
          x.upper <= y.upper || y.upper != y.upper ? x.upper : y.upper};
}

/// upper - lower, or a little more.
template <std::floating_point T>
HULL_FN T width(interval<T> x) {
  return up::sub(x.upper, x.lower);
}

/// A number inside, near the middle; of an unbounded interval the one nearest to zero.
template <std::floating_point T>
HULL_FN constexpr T midpoint(interval<T> x) {
  T const middle = is_finite(x) ? T(0.5) * x.lower + T(0.5) * x.upper : T(0);
  return middle < x.lower ? x.lower : (middle > x.upper ? x.upper : middle);
}

/// The interval lies within [m - radius, m + radius] in exact arithmetic, where m = midpoint(x).
template <std::floating_point T>
HULL_FN T radius(interval<T> x) {
  if (!is_finite(x)) return std::numeric_limits<T>::infinity();
  T const middle = midpoint(x);
  T const above = up::sub(x.upper, middle);
  T const below = up::sub(middle, x.lower);
  return above > below ? above : below;
}

template <std::floating_point T>
HULL_FN constexpr interval<T> operator-(interval<T> x) {
  return {-x.upper, -x.lower};
}

template <std::floating_point T>
HULL_FN interval<T> operator+(interval<T> x, interval<T> y) {
  T const infinity = std::numeric_limits<T>::infinity();
  if (is_empty(x) || is_empty(y)) return everything<T>();
  T const lower = down::add(x.lower, y.lower);
  T const upper = up::add(x.upper, y.upper);
  return {lower == lower ? lower : -infinity, upper == upper ? upper : infinity};  // NaN is infinity - infinity
}

template <std::floating_point T>
HULL_FN interval<T> operator-(interval<T> x, interval<T> y) {
  return x + -y;
}

/// { s * t : t in x }. Zero times anything is zero: ends at infinity are limits, not members.
template <std::floating_point T>
HULL_FN interval<T> scale(interval<T> x, T s) {
  if (is_empty(x) || s != s) return everything<T>();
  if (s == 0) return {T(0), T(0)};
  T const low = s > 0 ? x.lower : x.upper;
  T const high = s > 0 ? x.upper : x.lower;
  return {low == 0 ? T(0) : down::mul(low, s), high == 0 ? T(0) : up::mul(high, s)};
}

template <std::floating_point T>
HULL_FN interval<T> operator*(interval<T> x, interval<T> y) {
  if (is_empty(x) || is_empty(y)) return everything<T>();
  return join(scale(x, y.lower), scale(x, y.upper));  // s * t is monotone in s, so its extremes are at the ends of y
}

/// { s / t : s in x, t in y }; `everything` when y has zero.
template <std::floating_point T>
HULL_FN interval<T> operator/(interval<T> x, interval<T> y) {
  if (is_empty(x) || !is_finite(x) || is_empty(y) || contains(y, T(0))) return everything<T>();
  bool const positive = y.lower > 0;
  T const low = positive ? x.lower : x.upper;   // the end that gives the least quotient
  T const high = positive ? x.upper : x.lower;  // and the greatest
  T const low_by = low < 0 ? y.lower : y.upper;
  T const high_by = high < 0 ? y.upper : y.lower;
  return {down::div(low, low_by), up::div(high, high_by)};
}

}  // namespace hull
