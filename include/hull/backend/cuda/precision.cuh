// SPDX-License-Identifier: Apache-2.0
// How products of wide dense stages are computed, and what each way costs soundness.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include <hull/backend/cuda/tensor_product.cuh>
#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>
#include <hull/propagate/rounding_error.hpp>

namespace hull::cuda {

/// Single precision on CUDA cores.
struct Fp32 final {
  static constexpr std::string_view name = "fp32";
  static constexpr bool tensor = false;
};

/// Tensor cores, every float split into two TF32 numbers (docs/soundness_tensor.md): faster, and a little looser under
/// `Outward`.
struct Tf32x3 final {
  static constexpr std::string_view name = "tf32x3";
  static constexpr bool tensor = true;
};

/// What the backward product of one stage costs, as kernels take it.
struct product_cost final {
  std::size_t roundings = 0;  // that a coefficient meets, all columns counted (backend/roundings.hpp)
  bool ordered = false;       // a Linear head: live columns alone make chains, and late terms meet fewer additions
  bool tensor = false;        // its chains are summed on tensor cores
  bool rounded = false;       // its weights are rounded themselves

  /// Relative error of what live column c sends back, of `live` among `size` columns.
  [[nodiscard]] HULL_FN double relative(std::size_t size, std::size_t live, std::size_t c) const {
    if (!ordered) return gamma(roundings, unit_float);
    std::size_t const saved = product_additions(size) - product_additions(live);  // chains that were not made
    if (!tensor) return gamma(roundings - saved - c % chain_terms - c / chain_terms, unit_float);
    return tensor_relative(roundings - alone(size) - saved - c / chain_terms);
  }
  /// The same for every column.
  [[nodiscard]] HULL_FN double relative(std::size_t size) const {
    return tensor ? tensor_relative(roundings - alone(size)) : gamma(roundings, unit_float);
  }

  // Underflow: of one product, and of one term relative to the magnitudes of its factors.
  [[nodiscard]] HULL_FN constexpr double product_floor() const {
    return tensor ? tensor_order::product_floor : float_floor;
  }
  [[nodiscard]] HULL_FN constexpr double operand_floor() const { return tensor ? tensor_order::operand_floor : 0; }

 private:
  /// Roundings of a term in its own chain, on CUDA cores.
  [[nodiscard]] HULL_FN static std::size_t alone(std::size_t size) {
    return 1 + (size < chain_terms ? size : chain_terms);
  }
  [[nodiscard]] HULL_FN static double tensor_relative(std::size_t additions) {
    constexpr double chain = tensor_order::chain_error(chain_terms);  // fewer terms err less
    return chain + (1 + chain) * gamma(additions, unit_float);
  }
};

}  // namespace hull::cuda
