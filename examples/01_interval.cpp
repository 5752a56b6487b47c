// SPDX-License-Identifier: Apache-2.0
// The ground floor: rounding with a direction, intervals, and the two lines that bracket a function on an interval.
#include <cstdio>

#include <hull/ops/relu.hpp>
#include <hull/ops/tanh.hpp>

using namespace hull;

namespace {

/// Holds both lines against the function at many points, in double.
template <PointwiseFunction F>
bool bracketed(F function, interval<float> range, lines<float> pair) {
  double const slack = 1e-12;  // of this check's own arithmetic
  for (int i = 0; i <= 1000; ++i) {
    double const width = static_cast<double>(range.upper) - static_cast<double>(range.lower);
    double const t = static_cast<double>(range.lower) + width * i / 1000;
    auto const at = [t](line<float> l) { return static_cast<double>(l.slope) * t + static_cast<double>(l.bias); };
    if (at(pair.lower) > function.eval(t) + slack || at(pair.upper) < function.eval(t) - slack) return false;
  }
  return true;
}

template <PointwiseFunction F>
bool show(char const* name, F function, interval<float> range) {
  auto const image = function.image(range);
  auto const pair = function.relax(range);
  std::printf("%-4s on [%g, %g]: values in [%.6g, %.6g], %.4g t + %.4g <= f(t) <= %.4g t + %.4g\n", name,
              static_cast<double>(range.lower), static_cast<double>(range.upper), static_cast<double>(image.lower),
              static_cast<double>(image.upper), static_cast<double>(pair.lower.slope),
              static_cast<double>(pair.lower.bias), static_cast<double>(pair.upper.slope),
              static_cast<double>(pair.upper.bias));
  return bracketed(function, range, pair);
}

}  // namespace

int main() {
  // One third is no float: down:: and up:: give its two neighbours.
  float const below = down::div(1.0f, 3.0f), above = up::div(1.0f, 3.0f);
  std::printf("%.9f < 1/3 < %.9f\n", static_cast<double>(below), static_cast<double>(above));
  bool good = 3.0 * static_cast<double>(below) < 1.0 && 3.0 * static_cast<double>(above) > 1.0;

  // Interval arithmetic rounds outward, so the exact result is always inside.
  interval<float> const third{below, above};
  auto const one = third + third + third;
  std::printf("1/3 + 1/3 + 1/3 in [%.9f, %.9f]\n", static_cast<double>(one.lower), static_cast<double>(one.upper));
  good = good && contains(one, 1.0f) && one.lower < one.upper;

  good = show("Relu", Relu, {-1, 2}) && good;
  good = show("Tanh", Tanh, {-0.5f, 2}) && good;
  std::puts(good ? "every bound holds" : "a bound is broken");
  return good ? 0 : 1;
}
