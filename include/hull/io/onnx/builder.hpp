// SPDX-License-Identifier: Apache-2.0
// Grows the network node by node, and brings it into its final order with its final names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/core/extents.hpp>
#include <hull/io/emit.hpp>
#include <hull/io/model.hpp>
#include <hull/io/onnx/shapes.hpp>

namespace hull::io::onnx_reader {

using attribute_map = std::map<std::string, std::vector<std::int64_t>>;

[[nodiscard]] inline std::vector<std::int64_t> as_attribute(std::vector<std::size_t> const& numbers) {
  return {numbers.begin(), numbers.end()};
}

/// A node that may still change.
struct draft {
  node part;                                 // its name is given at the end
  std::map<std::string, tensor> parameters;  // "weight"
  std::string origin;                        // place in the file, for messages
  std::size_t consumers = 0;                 // drafts that read it
  std::size_t tensors = 0;                   // ONNX tensors that stand for it
};

/// A network is a type, and compilers nest templates to a limited depth.
inline constexpr std::size_t most_nodes = 400;

class builder {
 public:
  [[nodiscard]] node const& at(std::size_t i) const { return drafts_[i].part; }
  [[nodiscard]] draft& edit(std::size_t i) { return drafts_[i]; }
  [[nodiscard]] draft const& look(std::size_t i) const { return drafts_[i]; }
  [[nodiscard]] std::size_t size() const { return drafts_.size(); }

  /// Appends an operator without parameters; an equal one that is already there is used again.
  std::size_t add(std::string op, std::vector<std::size_t> inputs, shape dims, attribute_map attributes,
                  std::string const& origin) {
    std::string key = op;
    for (auto const i : inputs) key += ' ' + std::to_string(i);
    for (auto const& [name, numbers] : attributes) {
      key += ' ' + name;
      for (auto const x : numbers) key += ',' + std::to_string(x);
    }
    auto const [place, is_new] = known_.try_emplace(std::move(key), drafts_.size());
    if (is_new) append(std::move(op), std::move(inputs), std::move(dims), std::move(attributes), {}, origin);
    return place->second;
  }

  /// Appends an operator with parameters.
  std::size_t add(std::string op, std::size_t input, shape dims, attribute_map attributes,
                  std::map<std::string, tensor> parameters, std::string const& origin) {
    append(std::move(op), {input}, std::move(dims), std::move(attributes), std::move(parameters), origin);
    return drafts_.size() - 1;
  }

  /// The same elements in another shape; steps through earlier changes of shape, so that none follows another.
  std::size_t reshape(std::size_t from, shape const& target, std::string const& origin) {
    while (at(from).shape != target && only_shape(at(from).op)) from = at(from).inputs[0];
    shape const& dims = at(from).shape;
    if (dims == target) return from;
    if (target.size() == 1) return add("Flatten", {from}, target, {}, origin);
    if (auto const axis = inserted_one(dims, target); axis < target.size()) {
      return add("Unsqueeze", {from}, target, {{"axes", {static_cast<std::int64_t>(axis)}}}, origin);
    }
    if (auto const axis = inserted_one(target, dims); axis < dims.size()) {
      return add("Squeeze", {from}, target, {{"axes", {static_cast<std::int64_t>(axis)}}}, origin);
    }
    return add("Reshape", {from}, target, {{"shape", as_attribute(target)}}, origin);
  }

  [[nodiscard]] static bool only_shape(std::string_view op) {
    return op == "Flatten" || op == "Reshape" || op == "Squeeze" || op == "Unsqueeze";
  }

  /// True if the values of node i are >= 0 whatever the input is.
  [[nodiscard]] bool non_negative(std::size_t i) const {
    static std::set<std::string_view> const keeps_sign = {"MaxPool", "AveragePool", "GlobalAveragePool", "Transpose",
                                                          "Slice",   "Flatten",     "Upsample",          "Spread",
                                                          "Reshape", "Squeeze",     "Unsqueeze"};
    while (keeps_sign.contains(at(i).op)) i = at(i).inputs[0];
    return at(i).op == "Relu" || at(i).op == "Sigmoid";
  }

  /// Keeps what `output` depends on, in the order in which the expression language numbers it, and names the layers.
  [[nodiscard]] model finish(std::size_t output, std::string source) {
    std::vector<node const*> parts;
    parts.reserve(drafts_.size());
    for (auto const& d : drafts_) parts.push_back(&d.part);
    auto const order = reachable_order(parts, output);
    expect(order.size() <= most_nodes, source + ": has " + std::to_string(order.size()) + " operators, at most " +
                                           std::to_string(most_nodes) + " are supported");

    model result;
    result.source = std::move(source);
    std::vector<std::size_t> place(drafts_.size(), 0);
    std::map<std::string_view, std::size_t> ordinals;
    for (auto const i : order) {
      draft& d = drafts_[i];
      expect(
          d.part.shape.size() <= extents::max_rank,
          d.origin + ": a shape with more than " + std::to_string(extents::max_rank) + " dimensions is not supported");
      // The language has no Pad: an operator that could take it over has done so.
      expect(d.part.op != "Pad", d.origin + ": Pad is not supported here; it must come right before a Conv or a pool");
      if (auto const prefix = name_prefix(d.part.op); !d.parameters.empty()) {
        d.part.name = std::string(prefix) + std::to_string(++ordinals[prefix]);
        bool const affine = d.part.op == "Linear" || d.part.op == "Conv";
        if (affine && !d.parameters.contains("bias")) {
          std::size_t const n = d.part.shape[0];
          d.parameters["bias"] = {{n}, std::vector<float>(n, 0.0f), false};
        }
        for (auto& [key, numbers] : d.parameters) result.parameters[d.part.name + '.' + key] = std::move(numbers);
      }
      for (auto& input : d.part.inputs) input = place[input];
      place[i] = result.nodes.size();
      result.nodes.push_back(std::move(d.part));
    }
    return result;
  }

 private:
  void append(std::string op, std::vector<std::size_t> inputs, shape dims, attribute_map attributes,
              std::map<std::string, tensor> parameters, std::string const& origin) {
    for (auto const i : inputs) ++drafts_[i].consumers;
    node part{std::move(op), "", std::move(inputs), std::move(dims), std::move(attributes), ""};
    drafts_.push_back({std::move(part), std::move(parameters), origin});
  }

  /// The axis at which `longer` has one more 1 than `shorter`, or the rank of `longer` if that is not the difference.
  [[nodiscard]] static std::size_t inserted_one(shape const& shorter, shape const& longer) {
    if (longer.size() != shorter.size() + 1) return longer.size();
    for (std::size_t a = 0; a < longer.size(); ++a) {
      if (longer[a] != 1) continue;
      shape without = longer;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(a));
      if (without == shorter) return a;
    }
    return longer.size();
  }

  [[nodiscard]] static std::string_view name_prefix(std::string_view op) {
    if (op == "Linear") return "fc";
    if (op == "Conv") return "conv";
    if (op == "BatchNormalization") return "bn";
    if (op == "Add") return "add";
    if (op == "Sub") return "sub";
    if (op == "Mul") return "mul";
    if (op == "Div") return "div";
    return "leaky_relu";
  }

  std::vector<draft> drafts_;
  std::map<std::string, std::size_t> known_;
};

}  // namespace hull::io::onnx_reader
