// SPDX-License-Identifier: Apache-2.0
// How products of wide dense stages, and of convolutions, are computed.
#pragma once

#include <cstddef>
#include <string_view>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_product.cuh>
#include <hull/backend/cuda/half_tile_product.cuh>
#include <hull/backend/cuda/product.cuh>
#include <hull/backend/cuda/product_cost.cuh>
#include <hull/backend/cuda/tensor_product.cuh>
#include <hull/backend/summation.hpp>
#include <hull/core/error.hpp>

namespace hull::cuda {

// A precision has
//   scratch_floats(terms, columns)   floats of scratch that a product takes
//   errors(terms, largest)           of a product with that many terms, of weights up to this magnitude
//   multiply(...)                    C (+)= A B, see product.cuh, for weights up to `largest`
//   convolutions                     conv_numbers of their products; halfs err as `errors` says
//   scaled                           whether any of it asks for `largest`: finding it reads all weights once
//   expect_device()                  throws hull::error where the current device cannot do it

/// Single precision on CUDA cores.
struct Fp32 final {
  static constexpr std::string_view name = "fp32";
  static constexpr bool tensor = false;
  static constexpr bool scaled = false;
  static constexpr conv_numbers convolutions = conv_numbers::floats;

  [[nodiscard]] static constexpr std::size_t scratch_floats(std::size_t /*terms*/, std::size_t /*columns*/) {
    return 0;
  }
  [[nodiscard]] static tensor_errors errors(std::size_t /*terms*/, float /*largest*/) { return {}; }
  static void expect_device() {}

  template <bool Transposed>
  static void multiply(device const& at, plain_rows const& a, std::size_t rows, std::size_t terms,
                       gathered<Transposed> const& b, std::size_t columns, float /*largest*/, float* c,
                       std::size_t c_stride, bool overwrite, float* /*scratch*/) {
    product(at.stream(), at.processors(), a, rows, terms, b, columns, c, c_stride, overwrite);
  }
};

/// Tensor cores, every float split into two TF32 numbers (docs/soundness_tensor.md): faster, and a little looser under
/// `Outward`.
struct Tf32x3 final {
  static constexpr std::string_view name = "tf32x3";
  static constexpr bool tensor = true;
  static constexpr bool scaled = false;
  static constexpr conv_numbers convolutions = conv_numbers::floats;

  [[nodiscard]] static constexpr std::size_t scratch_floats(std::size_t /*terms*/, std::size_t /*columns*/) {
    return 0;
  }
  [[nodiscard]] static tensor_errors errors(std::size_t /*terms*/, float /*largest*/) {
    using order = tensor_order;  // fewer terms err less than a full chain
    return {order::chain_error(chain_terms), order::product_floor, order::operand_floor, order::operand_floor};
  }
  static void expect_device() {}

  template <bool Transposed>
  static void multiply(device const& at, plain_rows const& a, std::size_t rows, std::size_t terms,
                       gathered<Transposed> const& b, std::size_t columns, float /*largest*/, float* c,
                       std::size_t c_stride, bool overwrite, float* /*scratch*/) {
    tensor_product(at.stream(), at.processors(), a, rows, terms, b, columns, c, c_stride, overwrite);
  }
};

/// Tensor cores of compute capability 9.0 (H100, H200), every float a pair of halfs: the fastest, takes memory for
/// packed operands, and is as loose as Tf32x3. Convolutions, too.
struct Fp16x3 final {
  static constexpr std::string_view name = "fp16x3";
  static constexpr bool tensor = true;
  static constexpr bool scaled = true;
  static constexpr conv_numbers convolutions = conv_numbers::halfs;

  [[nodiscard]] static constexpr std::size_t scratch_floats(std::size_t terms, std::size_t columns) {
    return half_scratch_floats(terms, columns);
  }
  [[nodiscard]] static tensor_errors errors(std::size_t terms, float largest) {
    using order = half_order;
    // the largest number of a row is at most the sum of its magnitudes
    double const range = order::range_error * static_cast<double>(largest) * static_cast<double>(terms + 1);
    return {order::chain_error(chain_terms), order::product_floor, order::operand_floor + range, order::operand_floor};
  }
  static void expect_device() {
    if (!has_wgmma()) {
      throw error("CUDA: precision fp16x3 needs compute capability 9.0 (H100, H200); take tf32x3", fault::device);
    }
  }

  template <bool Transposed>
  static void multiply(device const& at, plain_rows const& a, std::size_t rows, std::size_t terms,
                       gathered<Transposed> const& b, std::size_t columns, float largest, float* c,
                       std::size_t c_stride, bool overwrite, float* scratch) {
    half_product(at.stream(), at.processors(), a, rows, terms, b, columns, largest, c, c_stride, overwrite, scratch);
  }
};

}  // namespace hull::cuda
