// SPDX-License-Identifier: Apache-2.0
// What the translation of one ONNX node sees: its inputs, its attributes and the network under construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/onnx/builder.hpp>
#include <hull/io/onnx/constant.hpp>
#include <hull/io/onnx/proto.hpp>
#include <hull/io/onnx/shapes.hpp>

namespace hull::io::onnx_reader {

/// What an ONNX tensor stands for: numbers known now, or a node of the network_.
/// Invariant of a node: its shape is without_batch(dims).
struct value {
  shape dims;                       // as ONNX sees it
  std::size_t node = 0;             // if not known
  std::shared_ptr<constant> known;  // set if constant
  bool defined = false;
  std::size_t uses = 0;  // readers of the tensor that are still to come, the graph's output included
};

/// Bounds on what a small file can ask for.
struct limits {
  std::size_t grown_elements = std::size_t{1} << 25;  // elements of constants made beyond those stored in the file
};

class context {
 public:
  context(std::string const& source, node_proto const& node, std::map<std::string, value>& values, builder& graph,
          std::size_t& growth_left)
      : where_(place(source, node)),
        attributes_(node, where_),
        node_(node),
        values_(values),
        network_(graph),
        growth_left_(growth_left) {}

  /// model.onnx: node "Conv_3"
  [[nodiscard]] static std::string place(std::string const& source, node_proto const& node) {
    if (!node.name().empty()) return source + ": node " + in_quotes(node.name());
    return source + ": node of " + in_quotes(node.output_size() > 0 ? node.output(0) : std::string());
  }

  [[nodiscard]] std::string const& where() const { return where_; }
  [[nodiscard]] attribute_list const& attributes() const { return attributes_; }
  [[nodiscard]] builder& network() const { return network_; }
  [[nodiscard]] std::string const& op() const { return node_.op_type(); }
  [[noreturn]] void refuse(std::string const& sentence) const {
    throw error(where_ + ": " + readable(op()) + ' ' + sentence);
  }
  void require(bool condition, std::string const& sentence) const {
    if (!condition) refuse(sentence);
  }

  [[nodiscard]] std::size_t input_count() const { return static_cast<std::size_t>(node_.input_size()); }
  [[nodiscard]] std::size_t output_count() const { return static_cast<std::size_t>(node_.output_size()); }
  [[nodiscard]] bool has(std::size_t i) const { return i < input_count() && !node_.input(static_cast<int>(i)).empty(); }

  /// Input i, constant or not.
  [[nodiscard]] value const& input(std::size_t i) const {
    require(has(i), "lacks input " + std::to_string(i));
    auto const& name = node_.input(static_cast<int>(i));
    auto const found = values_.find(name);
    expect(found != values_.end() && found->second.defined,
           where_ + ": input " + in_quotes(name) + " is not defined before this node");
    return found->second;
  }

  [[nodiscard]] bool is_constant(std::size_t i) const { return input(i).known != nullptr; }

  /// Input i, which must be a node of the network_.
  [[nodiscard]] value const& variable(std::size_t i) const {
    value const& v = input(i);
    require(!v.known, "with a constant as input " + std::to_string(i) + " is not supported");
    return v;
  }

  /// Input i, which must be constant.
  [[nodiscard]] constant const& known(std::size_t i) const {
    value const& v = input(i);
    require(v.known != nullptr, "needs a constant as input " + std::to_string(i));
    return *v.known;
  }

  /// The numbers of input i to keep: taken over without a copy when nobody else needs them.
  [[nodiscard]] constant take(std::size_t i) {
    static_cast<void>(known(i));
    value& v = values_.at(node_.input(static_cast<int>(i)));
    if (v.uses != 1 || v.known.use_count() != 1) return *v.known;
    return std::move(*v.known);
  }

  /// A list of integers: constant input i if present, else the attribute, else nothing.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> integers(std::size_t i,
                                                                  std::string const& attribute = "") const {
    if (has(i)) {
      constant const& c = known(i);
      require(c.is_integer(), "needs integers as input " + std::to_string(i));
      return std::get<std::vector<std::int64_t>>(c.values);
    }
    if (attribute.empty()) return std::nullopt;
    return attributes_.integers(attribute);
  }

  /// Result i is a node of the network; `dims` as ONNX sees it.
  void define(std::size_t i, shape const& dims, std::size_t node) {
    require(count(dims, where_) > 0, "has an output without elements");
    std::size_t const fitting = network_.reshape(node, without_batch(dims), where_);
    std::string const& name = node_.output(static_cast<int>(i));
    // Nodes made by this translation carry the name; a change of shape shares it with the node that computes.
    for (std::size_t n = fitting;; n = network_.at(n).inputs[0]) {
      if (network_.at(n).tensor.empty()) network_.edit(n).part.tensor = name;
      if (n == node || !builder::only_shape(network_.at(n).op)) break;
    }
    ++network_.edit(fitting).tensors;
    store(i, {dims, fitting, nullptr, true, 0});
  }

  /// Result i is constant.
  void define(std::size_t i, constant c) {
    c.name = node_.output(static_cast<int>(i));
    shape dims = c.dims;
    store(i, {std::move(dims), 0, std::make_shared<constant>(std::move(c)), true, 0});
  }

  /// True if result i has a name and somebody reads it.
  [[nodiscard]] bool wanted(std::size_t i) const {
    if (i >= output_count() || node_.output(static_cast<int>(i)).empty()) return false;
    auto const found = values_.find(node_.output(static_cast<int>(i)));
    return found != values_.end() && found->second.uses > 0;
  }

  /// Refuses when a result other than the first `n` is read.
  void only_first_outputs(std::size_t n) const {
    for (std::size_t i = n; i < output_count(); ++i) {
      require(!wanted(i), "with its output " + std::to_string(i) + " in use is not supported");
    }
  }

  /// Accounts for `n` elements that are not in the file.
  void grow(std::size_t n) const {
    require(n <= growth_left_, "makes constants that are too large");
    growth_left_ -= n;
  }

  /// Constant `c` repeated to the ONNX shape `target`, as a parameter.
  [[nodiscard]] tensor expanded(constant const& c, shape const& target) const {
    std::size_t const n = count(target, where_);
    grow(n - std::min(n, c.size()));
    return as_parameter(pick(c, target, broadcast_table(c.dims, target)), without_batch(target), where_);
  }

 private:
  void store(std::size_t i, value v) {
    value& slot = values_[node_.output(static_cast<int>(i))];
    v.uses = slot.uses;
    slot = std::move(v);
  }

  std::string where_;
  attribute_list attributes_;
  node_proto const& node_;
  std::map<std::string, value>& values_;
  builder& network_;
  std::size_t& growth_left_;
};

}  // namespace hull::io::onnx_reader
