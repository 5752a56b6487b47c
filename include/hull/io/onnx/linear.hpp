// SPDX-License-Identifier: Apache-2.0
// Matrix products: MatMul and Gemm become Linear.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>

namespace hull::io::onnx_reader {

/// `c` times a factor; inexact products are marked.
[[nodiscard]] inline constant scaled(constant&& c, float factor) {
  if (factor == 1.0f) return std::move(c);
  auto const wide = static_cast<double>(factor);
  std::vector<double> products = as_reals(c);
  for (auto& x : products) {
    double const product = x * wide;
    c.rounded = c.rounded || std::fma(x, wide, -product) != 0.0;
    x = product;
  }
  c.values = std::move(products);
  return std::move(c);
}

/// Appends a Linear on the elements of `x` in order. `weight` has shape [out, in].
[[nodiscard]] inline std::size_t add_linear(context& c, value const& x, constant&& weight, std::optional<tensor> bias) {
  std::size_t const out = weight.dims[0], in = weight.dims[1];
  c.require(out > 0, "has an output without elements");
  c.require(count(x.dims, c.where()) == in,
            "of " + spell(x.dims) + " with a matrix for " + std::to_string(in) + " inputs");
  std::map<std::string, tensor> parameters;
  parameters["weight"] = as_parameter(std::move(weight), {out, in}, c.where());
  if (bias) parameters["bias"] = std::move(*bias);
  auto const row = c.network().reshape(x.node, {in}, c.where());
  return c.network().add("Linear", row, {out}, {{"features", {static_cast<std::int64_t>(out)}}}, std::move(parameters),
                         c.where());
}

inline void translate_gemm(context& c) {
  value const x = c.variable(0);
  bool const trans_a = c.attributes().integer("transA", 0) != 0;
  bool const trans_b = c.attributes().integer("transB", 0) != 0;
  c.require(x.dims.size() == 2, "needs a matrix, not shape " + spell(x.dims));
  c.require(x.dims[trans_a ? 1 : 0] == 1,
            "on several rows at once is not supported (its input is " + spell(x.dims) + ")");
  constant weight = c.known(1).dims.size() == 2 && trans_b ? c.take(1) : c.known(1);
  c.require(weight.dims.size() == 2, "needs a matrix as input 1");
  if (!trans_b) weight = transposed(weight);
  weight = scaled(std::move(weight), c.attributes().real("alpha", 1));
  std::size_t const out = weight.dims[0];

  std::optional<tensor> bias;
  if (c.has(2)) {
    constant const& added = c.known(2);
    shape const row{1, out};
    c.require(broadcast(added.dims, row, c.where()) == row, "has a bias of shape " + spell(added.dims));
    bias = c.expanded(scaled(constant(added), c.attributes().real("beta", 1)), row);
  }
  auto const node = add_linear(c, x, std::move(weight), std::move(bias));
  c.define(0, {1, out}, node);
}

/// x W or W x with one row or column x; dimensions of size 1 in front are kept.
inline void translate_matmul(context& c) {
  bool const weight_first = c.is_constant(0);
  value const x = c.variable(weight_first ? 1 : 0);
  constant const& w = c.known(weight_first ? 0 : 1);
  auto const only_ones = [](auto first, auto last) { return std::all_of(first, last, [](auto d) { return d == 1; }); };
  std::size_t const rank = x.dims.size(), w_rank = w.dims.size();
  c.require(rank >= 1 && w_rank >= 1, "of a single number");
  bool const w_fits = w_rank <= 2 || only_ones(w.dims.begin(), w.dims.end() - 2);
  c.require(w_fits, "with a stack of matrices is not supported");

  // The matrix part of W, a vector counting as one column (x W) or one row (W x).
  std::size_t const rows = w_rank == 1 ? (weight_first ? 1 : w.dims[0]) : w.dims[w_rank - 2];
  std::size_t const columns = w_rank == 1 ? (weight_first ? w.dims[0] : 1) : w.dims[w_rank - 1];
  std::size_t const in = weight_first ? columns : rows;
  std::size_t const out = weight_first ? rows : columns;

  // The axis of x that is summed; all others must be 1.
  std::size_t const summed = weight_first && rank >= 2 ? rank - 2 : rank - 1;
  c.require(x.dims[summed] == in, "of shapes " + spell(c.input(0).dims) + " and " + spell(c.input(1).dims));
  c.require(count(x.dims, c.where()) == in,
            "on several rows at once is not supported (its input is " + spell(x.dims) + ")");

  shape dims = x.dims;
  if (w_rank == 1) {
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(summed));
  } else {
    dims[summed] = out;
    // A vector x is treated as a matrix by ONNX when W has axes in front.
    while (dims.size() + (rank == 1 ? 1 : 0) < w_rank) dims.insert(dims.begin(), 1);
  }

  constant weight = c.take(weight_first ? 0 : 1);
  weight.dims = {rows, columns};
  if (!weight_first) weight = transposed(weight);
  auto const node = add_linear(c, x, std::move(weight), std::nullopt);
  c.define(0, dims, node);
}

}  // namespace hull::io::onnx_reader
