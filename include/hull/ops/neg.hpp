// SPDX-License-Identifier: Apache-2.0
// -x
#pragma once

#include <hull/ops/op.hpp>

namespace hull {

struct neg_t final {
  static constexpr std::string_view name = "Neg";
  static constexpr auto parameters = no_parameters;
  using element = neg_t;

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return -x;
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const { return -box; }
  [[nodiscard]] HULL_FN lines<float> relax(interval<float>) const { return {{-1, 0}, {-1, 0}}; }
  [[nodiscard]] HULL_FN bool linear_on(interval<float>) const { return true; }
};

inline constexpr neg_t Neg{};
static_assert(Pointwise<neg_t>);

}  // namespace hull
