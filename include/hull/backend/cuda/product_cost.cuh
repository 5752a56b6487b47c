// SPDX-License-Identifier: Apache-2.0
// What the product of a stage costs soundness.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/summation.hpp>
#include <hull/core/config.hpp>
#include <hull/propagate/rounding_error.hpp>

namespace hull::cuda {

/// What sums on tensor cores lose beside additions of chains; as docs/soundness_tensor.md names it.
struct tensor_errors final {
  double chain = 0;                             // of one chain, relative; 0: sums run on CUDA cores
  double product_floor = float_floor;           // underflow: of one term,
  double floor_of_a = 0, floor_of_weights = 0;  // and relative to the magnitude of its factor in A, and in the weights
};

/// What the backward product of one stage costs, as kernels take it.
struct product_cost final {
  std::size_t roundings = 0;  // that a coefficient meets, all columns counted (backend/roundings.hpp),
  std::size_t in_chain = 0;   // and those of them that a term meets in its own chain, on CUDA cores
  bool ordered = false;       // a Linear head: live columns alone make chains, and late terms meet fewer additions
  bool rounded = false;       // its weights are rounded themselves
  tensor_errors on_tensor_cores;

  [[nodiscard]] HULL_FN bool tensor() const { return on_tensor_cores.chain > 0; }

  /// Relative error of what live column c sends back, of `live` among `size` columns.
  [[nodiscard]] HULL_FN double relative(std::size_t size, std::size_t live, std::size_t c) const {
    if (!ordered) return relative();
    std::size_t const saved = product_additions(size) - product_additions(live);  // chains that were not made
    if (!tensor()) return gamma(roundings - saved - c % chain_terms - c / chain_terms, unit_float);
    return tensor_relative(roundings - in_chain - saved - c / chain_terms);
  }
  /// The same for every column.
  [[nodiscard]] HULL_FN double relative() const {
    return tensor() ? tensor_relative(roundings - in_chain) : gamma(roundings, unit_float);
  }

 private:
  /// A chain errs as a whole; what it has become is rounded by the additions that follow.
  [[nodiscard]] HULL_FN double tensor_relative(std::size_t additions) const {
    double const chain = on_tensor_cores.chain;
    return chain + (1 + chain) * gamma(additions, unit_float);
  }
};

}  // namespace hull::cuda
