// SPDX-License-Identifier: Apache-2.0
// (x - mean) / sqrt(variance + epsilon) * scale + bias, channel by channel, with the statistics of training
#pragma once

#include <cmath>

#include <hull/core/fixed_string.hpp>
#include <hull/ops/op.hpp>
#include <hull/relax/convex.hpp>

namespace hull {

/// The exact gain scale / sqrt(variance + epsilon) is irrational: the slope is a float close to it, the rest over the
/// box is in the biases. variance + epsilon <= 0 is bad input; the lines then say nothing.
struct batch_normalization_by final {
  float scale;
  float bias;
  float mean;
  float variance;
  float epsilon;

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return (x - T(mean)) / std::sqrt(T(variance) + T(epsilon)) * T(scale) + T(bias);
  }

  /// Encloses scale / sqrt(variance + epsilon).
  [[nodiscard]] HULL_FN interval<double> gain() const {
    interval<double> const spread = widen(point(variance)) + widen(point(epsilon));
    if (!(spread.lower > 0)) return everything<double>();
    return widen(point(scale)) / interval<double>{down::sqrt(spread.lower), up::sqrt(spread.upper)};
  }

  /// Encloses the function's value at x.
  [[nodiscard]] HULL_FN interval<double> value(float x) const {
    return gain() * (widen(point(x)) - widen(point(mean))) + widen(point(bias));
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box) || !is_finite(gain())) return everything<float>();
    return narrow(join(value(box.lower), value(box.upper)));
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const {
    interval<double> const exact_slope = gain();
    if (is_empty(box) || !is_finite(box) || !is_finite(exact_slope)) return unknown_lines();
    float const slope = nearest_slope(midpoint(exact_slope));
    return parallel_lines(slope, chord_rest(box, value(box.lower), value(box.upper), slope));
  }

  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return true; }
};

template <fixed_string Layer>
struct batch_normalization_t final {
  static constexpr std::string_view name = "BatchNormalization";
  static constexpr std::string_view layer = Layer.view();
  static constexpr std::array parameters{
      pointwise_parameter{"scale", per::channel}, pointwise_parameter{"bias", per::channel},
      pointwise_parameter{"mean", per::channel},  pointwise_parameter{"variance", per::channel},
      pointwise_parameter{"epsilon", per::layer},
  };
  using element = batch_normalization_by;
};

template <fixed_string Layer>
inline constexpr batch_normalization_t<Layer> BatchNormalization{};
static_assert(Pointwise<batch_normalization_t<"layer">>);

}  // namespace hull
