// SPDX-License-Identifier: Apache-2.0
// The order in which every backend sums the terms of a product: chains of fused multiply-adds, chains added in order.
// It depends on the number of terms alone, and soundness counts on it (docs/soundness.md, section 6).
#pragma once

#include <algorithm>
#include <cstddef>

namespace hull {

inline constexpr std::size_t chain_terms = 32;  // terms summed in one register

/// Additions to one element of C that a product of `terms` terms makes; each rounds all that C held before.
[[nodiscard]] constexpr std::size_t product_additions(std::size_t terms) {
  return (terms + chain_terms - 1) / chain_terms;
}

/// Roundings that one term can meet on the way to an element, the additions to C included.
[[nodiscard]] constexpr std::size_t product_roundings(std::size_t terms) {
  return 1 + std::min(terms, chain_terms) + product_additions(terms);
}

}  // namespace hull
