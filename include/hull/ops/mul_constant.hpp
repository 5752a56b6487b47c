// SPDX-License-Identifier: Apache-2.0
// x * constant, element by element
#pragma once

#include <hull/core/fixed_string.hpp>
#include <hull/ops/op.hpp>

namespace hull {

/// Its lines are exact: slope the constant, bias 0.
struct mul_by final {
  float constant;  // finite

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x * T(constant);
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const { return scale(box, constant); }
  [[nodiscard]] HULL_FN lines<float> relax(interval<float>) const { return {{constant, 0}, {constant, 0}}; }
  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return true; }
};

template <fixed_string Layer>
struct mul_constant_t final {
  static constexpr std::string_view name = "Mul";
  static constexpr std::string_view layer = Layer.view();
  static constexpr std::array parameters{pointwise_parameter{"constant", per::element}};
  using element = mul_by;
};

template <fixed_string Layer>
inline constexpr mul_constant_t<Layer> Mul{};
static_assert(Pointwise<mul_constant_t<"layer">>);

}  // namespace hull
