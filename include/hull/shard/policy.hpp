// SPDX-License-Identifier: Apache-2.0
// How the parameters of a network and the rows of its bounds are spread over ranks.
#pragma once

#include <concepts>
#include <string_view>

namespace hull {

/// Every rank holds all parameters; rows are divided. Bounds equal those of one rank to the bit.
struct Replicated final {
  static constexpr std::string_view name = "replicated";
};

/// Every rank holds 1/P of each weight tensor and sees the rest block by block; rows are divided. Bounds equal those of
/// one rank to the bit.
struct FullySharded final {
  static constexpr std::string_view name = "fully-sharded";
};

/// Pairs of affine stages are divided by neurons, with the columns of the rows that cross them; no weight is ever
/// moved. Bounds equal those of one rank up to rounding, and are sound under `Outward`.
struct TensorParallel final {
  static constexpr std::string_view name = "tensor-parallel";
};

template <class S>
concept Sharding = std::same_as<S, Replicated> || std::same_as<S, FullySharded> || std::same_as<S, TensorParallel>;

}  // namespace hull
