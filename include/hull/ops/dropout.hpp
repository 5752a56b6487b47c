// SPDX-License-Identifier: Apache-2.0
// Dropout as it is after training: x itself.
#pragma once

#include <hull/ops/identity.hpp>
#include <hull/ops/op.hpp>

namespace hull {

struct dropout_t final {
  static constexpr std::string_view name = "Dropout";
  static constexpr auto parameters = no_parameters;
  using element = identity_t;
};

inline constexpr dropout_t Dropout{};
static_assert(Pointwise<dropout_t>);

}  // namespace hull
