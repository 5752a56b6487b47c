// SPDX-License-Identifier: Apache-2.0
// x - constant, element by element
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/op.hpp>

namespace hull {

/// Its lines are exact: slope 1, bias minus the constant.
struct sub_by final {
  float constant;  // finite

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x - T(constant);
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const { return box - point(constant); }
  [[nodiscard]] HULL_FN lines<float> relax(interval<float>) const { return {{1, -constant}, {1, -constant}}; }
  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return true; }
};

template <fixed_string Layer>
struct sub_constant_t final {
  static constexpr std::string_view name = "Sub";
  static constexpr std::string_view layer = Layer.view();
  static constexpr std::array parameters{pointwise_parameter{"constant", per::element}};
  using element = sub_by;
};

template <fixed_string Layer>
inline constexpr sub_constant_t<Layer> Sub{};
static_assert(Pointwise<sub_constant_t<"layer">>);

}  // namespace hull
