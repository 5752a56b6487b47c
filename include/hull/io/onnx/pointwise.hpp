// SPDX-License-Identifier: Apache-2.0
// Operators on single elements: activations, arithmetic with constants, sums and differences of nodes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>

namespace hull::io::onnx_reader {

/// The node behind changes of shape. An operator on single elements goes there, next to the layer it belongs to, and
/// the changes of shape follow, where they may cancel each other.
[[nodiscard]] inline std::size_t behind_shapes(context const& c, std::size_t node) {
  while (builder::only_shape(c.network().at(node).op)) node = c.network().at(node).inputs[0];
  return node;
}

/// An operator on single elements without parameters.
inline void define_elementwise(context& c, std::string const& op) {
  value const x = c.variable(0);
  std::size_t const source = behind_shapes(c, x.node);
  shape const dims = c.network().at(source).shape;
  c.define(0, x.dims, c.network().add(op, {source}, dims, {}, c.where()));
}

/// Relu, Sigmoid, Tanh, Neg: the same name here and there.
inline void translate_activation(context& c) { define_elementwise(c, c.op()); }

inline void translate_leaky_relu(context& c) {
  value const x = c.variable(0);
  constant alpha{{1}, std::vector<float>{c.attributes().real("alpha", 0.01f)}, false, "alpha"};
  std::map<std::string, tensor> parameters;
  parameters["alpha"] = as_parameter(std::move(alpha), {1}, c.where());
  std::size_t const source = behind_shapes(c, x.node);
  shape const dims = c.network().at(source).shape;
  c.define(0, x.dims, c.network().add("LeakyRelu", source, dims, {}, std::move(parameters), c.where()));
}

/// A Clip at 0 from below alone is a Relu, one at nothing is no operator. Bounds that no float exceeds are none.
inline void translate_clip(context& c) {
  auto const bound = [&](std::size_t i, char const* name) {
    std::optional<double> result;
    if (c.attributes().has(name)) result = static_cast<double>(c.attributes().real(name, 0));
    if (c.has(i)) for_each_real(c.known(i), [&](std::size_t, double b) { result = b; });
    return result;
  };
  constexpr double most = std::numeric_limits<float>::max();
  double const low = bound(1, "min").value_or(-most), high = bound(2, "max").value_or(most);
  c.require((low == 0.0 || low <= -most) && high >= most, "is supported from 0 to infinity only");
  if (low != 0.0) return c.define(0, c.variable(0).dims, c.variable(0).node);
  define_elementwise(c, "Relu");
}

inline void translate_batch_normalization(context& c) {
  value const x = c.variable(0);
  c.only_first_outputs(1);
  bool const training = c.attributes().integer("training_mode", 0) != 0 || c.attributes().integer("is_test", 1) == 0;
  c.require(!training, "in training mode is not supported");
  c.require(c.attributes().integer("spatial", 1) != 0, "with spatial = 0 is not supported");
  c.require(has_batch(x.dims), "needs an input with batch dimension, not shape " + spell(x.dims));
  std::size_t const channels = x.dims[1];
  std::map<std::string, tensor> parameters;
  char const* const names[] = {"scale", "bias", "mean", "variance"};
  for (std::size_t i = 0; i < 4; ++i) {
    c.require(c.known(i + 1).dims == shape{channels}, "needs one " + std::string(names[i]) + " for each channel");
    parameters[names[i]] = as_parameter(c.take(i + 1), {channels}, c.where());
  }
  constant epsilon{{1}, std::vector<float>{c.attributes().real("epsilon", 1e-5f)}, false, "epsilon"};
  parameters["epsilon"] = as_parameter(std::move(epsilon), {1}, c.where());
  for (float const v : parameters["variance"].values) {
    c.require(v + parameters["epsilon"].values[0] > 0, "has a variance that is not positive");
  }
  c.define(0, x.dims,
           c.network().add("BatchNormalization", x.node, without_batch(x.dims), {}, std::move(parameters), c.where()));
}

/// The draft of a Linear or Conv without bias whose result is read by this Add alone, changes of shape in between.
[[nodiscard]] inline std::optional<std::size_t> lone_affine(context const& c, value const& x) {
  std::size_t n = x.node;
  builder const& network = c.network();
  if (x.uses != 1 || network.look(n).tensors != 1 || network.look(n).consumers != 0) return std::nullopt;
  while (builder::only_shape(network.at(n).op)) {
    n = network.at(n).inputs[0];
    if (network.look(n).tensors != 0 || network.look(n).consumers != 1) return std::nullopt;
  }
  bool const affine = network.at(n).op == "Linear" || network.at(n).op == "Conv";
  if (!affine || network.look(n).parameters.contains("bias")) return std::nullopt;
  return n;
}

/// Makes constant `added` the bias of the Linear or Conv that computes `x`, if it has one number for each output
/// feature or channel.
[[nodiscard]] inline bool fused_as_bias(context& c, value const& x, constant const& added, shape const& dims) {
  auto const n = lone_affine(c, x);
  if (!n || dims != x.dims) return false;
  draft& layer = c.network().edit(*n);
  if (layer.part.op == "Linear") {
    tensor bias = c.expanded(added, dims);
    bias.shape = layer.part.shape;
    layer.parameters["bias"] = std::move(bias);
  } else {
    // Aligned with x, only the channel axis may have more than one element.
    shape aligned(dims.size() - added.dims.size(), 1);
    aligned.insert(aligned.end(), added.dims.begin(), added.dims.end());
    for (std::size_t a = 0; a < aligned.size(); ++a) {
      if (aligned[a] != 1 && a != 1) return false;
    }
    constant per_channel = added;
    per_channel.dims = {aligned[1]};
    layer.parameters["bias"] = c.expanded(per_channel, {dims[1]});
  }
  for (std::size_t i = x.node;; i = c.network().at(i).inputs[0]) {
    c.network().edit(i).part.tensor.clear();  // the sum gives its name
    if (i == *n) break;
  }
  // The product is no longer a tensor of its own.
  c.network().edit(x.node).tensors = 0;
  c.define(0, dims, x.node);
  for (std::size_t i = x.node; i != *n;) {
    i = c.network().at(i).inputs[0];
    c.network().edit(i).part.tensor = c.network().at(x.node).tensor;
  }
  return true;
}

/// Add, Sub, Mul, Div of a node and a constant.
inline void translate_with_constant(context& c, bool constant_first) {
  value const x = c.variable(constant_first ? 1 : 0);
  constant const& k = c.known(constant_first ? 0 : 1);
  std::string const& op = c.op();
  shape const dims = broadcast(x.dims, k.dims, c.where());
  c.require(count(dims, c.where()) == count(x.dims, c.where()),
            "would repeat its input " + spell(x.dims) + " to " + spell(dims) + ", which is not supported");
  if (op == "Add" && fused_as_bias(c, x, k, dims)) return;
  shape const inner = without_batch(dims);
  std::size_t operand = c.network().reshape(x.node, inner, c.where());
  std::string layer = op;
  if (constant_first && op == "Sub") {  // k - x = -x + k
    operand = c.network().add("Neg", {operand}, inner, {}, c.where());
    layer = "Add";
  }
  c.require(!(constant_first && op == "Div"), "of a constant by computed values is not supported");
  std::map<std::string, tensor> parameters;
  tensor& operand_values = parameters["constant"] = c.expanded(k, dims);
  if (op == "Div") {
    bool const zero =
        std::any_of(operand_values.values.begin(), operand_values.values.end(), [](float v) { return v == 0.0f; });
    c.require(!zero, "by zero");
  }
  c.define(0, dims, c.network().add(layer, operand, inner, {}, std::move(parameters), c.where()));
}

inline void translate_arithmetic(context& c) {
  // Before opset 7 a second operand could be aligned with any axis.
  c.require(!c.attributes().has("axis"), "with the attribute axis is not supported");
  if (c.is_constant(0) || c.is_constant(1)) return translate_with_constant(c, c.is_constant(0));
  c.require(c.op() == "Add" || c.op() == "Sub", "of two computed tensors is not supported");
  value const a = c.variable(0), b = c.variable(1);
  shape const dims = broadcast(a.dims, b.dims, c.where());
  std::size_t const n = count(dims, c.where());
  c.require(
      count(a.dims, c.where()) == n && count(b.dims, c.where()) == n,
      "of shapes " + spell(a.dims) + " and " + spell(b.dims) + " would repeat one of them, which is not supported");
  shape const inner = without_batch(dims);
  auto const left = c.network().reshape(a.node, inner, c.where());
  auto const right = c.network().reshape(b.node, inner, c.where());
  c.define(0, dims, c.network().add(c.op(), {left, right}, inner, {}, c.where()));
}

}  // namespace hull::io::onnx_reader
