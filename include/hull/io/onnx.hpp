// SPDX-License-Identifier: Apache-2.0
// Reads an ONNX file into a model.
//
// The batch dimension: if the first dimension of the graph's input is 1, symbolic, 0 or negative, it is the batch, and
// the model is that of one element; a first dimension above 1 belongs to the data. Inside the graph a leading 1 of a
// tensor of rank 2 and more is left out. The order of the elements never changes, so X_i and Y_i of a specification are
// element i of the model's input and output.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/file.hpp>
#include <hull/io/model.hpp>
#include <hull/io/onnx/builder.hpp>
#include <hull/io/onnx/context.hpp>
#include <hull/io/onnx/fold.hpp>
#include <hull/io/onnx/linear.hpp>
#include <hull/io/onnx/pointwise.hpp>
#include <hull/io/onnx/proto.hpp>
#include <hull/io/onnx/structure.hpp>
#include <hull/io/onnx/upscale.hpp>
#include <hull/io/onnx/window.hpp>

namespace hull::io {

namespace onnx_reader {

/// What to do with an operator of the network.
[[nodiscard]] inline std::map<std::string_view, translation> const& translations() {
  static std::map<std::string_view, translation> const table = {
      {"Relu", translate_activation},
      {"Sigmoid", translate_activation},
      {"Tanh", translate_activation},
      {"Neg", translate_activation},
      {"LeakyRelu", translate_leaky_relu},
      {"Clip", translate_clip},
      {"Add", translate_arithmetic},
      {"Sub", translate_arithmetic},
      {"Mul", translate_arithmetic},
      {"Div", translate_arithmetic},
      {"MatMul", translate_matmul},
      {"Gemm", translate_gemm},
      {"Conv", translate_conv},
      {"ConvTranspose", translate_conv_transpose},
      {"Upsample", translate_upsample},
      {"Resize", translate_resize},
      {"BatchNormalization", translate_batch_normalization},
      {"MaxPool", translate_max_pool},
      {"AveragePool", translate_average_pool},
      {"GlobalAveragePool", translate_global_average_pool},
      {"ReduceMean", translate_reduce_mean},
      {"Identity", translate_identity},
      {"Dropout", translate_dropout},
      {"Cast", translate_cast},
      {"Reshape", translate_reshape},
      {"Flatten", translate_flatten},
      {"Squeeze", translate_squeeze},
      {"Unsqueeze", translate_unsqueeze},
      {"Transpose", translate_transpose},
      {"Slice", translate_slice},
      {"Split", translate_split},
      {"Concat", translate_concat},
      {"Gather", translate_gather},
      {"Pad", translate_pad},
  };
  return table;
}

/// One pass over the nodes of the graph that the output depends on.
class importer {
 public:
  importer(model_proto proto, std::string source, limits allowed)
      : proto_(std::move(proto)), source_(std::move(source)), growth_left_(allowed.grown_elements) {}

  [[nodiscard]] model run() {
    graph_proto& graph = *proto_.mutable_graph();
    expect(graph.output_size() == 1,
           source_ + ": has " + std::to_string(graph.output_size()) + " outputs, expected one");
    std::string const& output = graph.output(0).name();
    mark_needed(graph, output);
    refuse_unknown_operators(graph);
    read_initializers(graph);
    read_input(graph);
    for (int i = 0; i < graph.node_size(); ++i) {
      if (needed_[static_cast<std::size_t>(i)]) translate(graph.node(i));
    }
    value const& result = values_.at(output);
    expect(result.defined, source_ + ": its output " + in_quotes(output) + " is computed by no node");
    expect(!result.known, source_ + ": its output " + in_quotes(output) + " does not depend on its input");
    builder_.edit(result.node).part.tensor = output;
    return builder_.finish(result.node, source_);
  }

 private:
  /// Finds the nodes that the output depends on and counts the readers of every tensor.
  void mark_needed(graph_proto const& graph, std::string const& output) {
    std::map<std::string_view, int> producer;
    for (int i = 0; i < graph.node_size(); ++i) {
      for (auto const& name : graph.node(i).output()) {
        if (!name.empty()) {
          expect(producer.emplace(name, i).second,
                 source_ + ": tensor " + in_quotes(name) + " is computed by two nodes");
        }
      }
    }
    needed_.assign(static_cast<std::size_t>(graph.node_size()), false);
    std::vector<std::string const*> open{&output};
    while (!open.empty()) {
      std::string const& name = *open.back();
      open.pop_back();
      ++values_[name].uses;
      auto const found = producer.find(name);
      if (found == producer.end() || needed_[static_cast<std::size_t>(found->second)]) continue;
      needed_[static_cast<std::size_t>(found->second)] = true;
      for (auto const& input : graph.node(found->second).input()) {
        if (!input.empty()) open.push_back(&input);
      }
    }
  }

  /// First of all: that an operator is missing matters more than how another one is used.
  void refuse_unknown_operators(graph_proto const& graph) const {
    for (int i = 0; i < graph.node_size(); ++i) {
      node_proto const& node = graph.node(i);
      bool const standard = node.domain().empty() || node.domain() == "ai.onnx";
      bool const known = standard && (translations().contains(node.op_type()) || folds().contains(node.op_type()));
      if (needed_[static_cast<std::size_t>(i)] && !known) refuse_operator(node, "");
    }
  }

  [[noreturn]] void refuse_operator(node_proto const& node, std::string const& how) const {
    bool const standard = node.domain().empty() || node.domain() == "ai.onnx";
    std::string const name = readable(standard ? node.op_type() : node.domain() + '.' + node.op_type());
    throw error(context::place(source_, node) + ": operator " + name + how + " is not supported (docs/operators.md)");
  }

  void read_initializers(graph_proto& graph) {
    for (auto const& sparse : graph.sparse_initializer()) {
      expect(!values_.contains(sparse.values().name()), source_ + ": tensor " + in_quotes(sparse.values().name()) +
                                                            " is stored as sparse, which is not supported");
    }
    for (auto& stored : *graph.mutable_initializer()) {
      auto const slot = values_.find(stored.name());
      if (slot != values_.end()) {
        expect(!slot->second.defined, source_ + ": tensor " + in_quotes(stored.name()) + " is stored twice");
        auto known = std::make_shared<constant>(decode(stored, source_));
        slot->second = {known->dims, 0, known, true, slot->second.uses};
      }
      tensor_proto().Swap(&stored);  // its memory is needed for the decoded numbers
    }
  }

  void read_input(graph_proto const& graph) {
    ::onnx::ValueInfoProto const* input = nullptr;
    for (auto const& candidate : graph.input()) {
      auto const slot = values_.find(candidate.name());
      if (slot == values_.end() || slot->second.defined) continue;  // not used, or an initializer listed as input
      expect(input == nullptr, source_ + ": has several inputs (" + in_quotes(input ? input->name() : "") + ", " +
                                   in_quotes(candidate.name()) + "), expected one");
      input = &candidate;
    }
    expect(input != nullptr, source_ + ": its output does not depend on an input");
    std::string const where = source_ + ": input " + in_quotes(input->name());
    expect(input->type().has_tensor_type() && input->type().tensor_type().has_shape(), where + " has no shape");
    auto const type = input->type().tensor_type().elem_type();
    expect(type == tensor_proto::FLOAT || type == tensor_proto::DOUBLE || type == tensor_proto::UNDEFINED,
           where + " is neither float nor double");
    shape dims;
    for (auto const& d : input->type().tensor_type().shape().dim()) {
      bool const fixed = d.has_dim_value() && d.dim_value() > 0;
      expect(fixed || dims.empty(), where + ": dimension " + std::to_string(dims.size()) + " is not fixed");
      dims.push_back(fixed ? static_cast<std::size_t>(d.dim_value()) : 1);
    }
    static_cast<void>(count(dims, where));
    shape const inner = without_batch(dims);
    auto const node = builder_.add("Input", {}, inner, {}, where);
    builder_.edit(node).part.tensor = input->name();
    ++builder_.edit(node).tensors;
    value& slot = values_.at(input->name());
    slot = {dims, node, nullptr, true, slot.uses};
  }

  void translate(node_proto const& node) {
    context c(source_, node, values_, builder_, growth_left_);
    for (auto const& name : node.output()) {
      auto const slot = values_.find(name);
      expect(slot == values_.end() || !slot->second.defined,
             c.where() + ": computes " + in_quotes(name) + ", which is given");
    }
    bool computed = false;
    for (std::size_t i = 0; i < c.input_count(); ++i) computed = computed || (c.has(i) && !c.is_constant(i));
    bool const by_value = computed && node.op_type() != "Shape";
    auto const& table = by_value ? translations() : folds();
    auto const found = table.find(node.op_type());
    if (found == table.end()) refuse_operator(node, computed ? "" : " on constants");
    expect(node.output_size() > 0, c.where() + ": has no output");
    found->second(c);
    release(node);
  }

  /// Forgets the constants that nobody reads any more.
  void release(node_proto const& node) {
    for (auto const& name : node.input()) {
      if (name.empty()) continue;
      value& v = values_.at(name);
      if (--v.uses == 0) v.known.reset();
    }
  }

  model_proto proto_;
  std::string source_;
  std::size_t growth_left_;
  std::map<std::string, value> values_;
  std::vector<bool> needed_;
  builder builder_;
};

}  // namespace onnx_reader

/// The model in `bytes`, an ONNX file; `source` is its name in messages.
/// Throws hull::error, one line, if the file is damaged or uses what the expression language cannot say.
[[nodiscard]] inline model read_onnx(std::string_view bytes, std::string source, onnx_reader::limits allowed = {}) {
  auto proto = onnx_reader::parse(bytes, source);
  return onnx_reader::importer(std::move(proto), std::move(source), allowed).run();
}

/// The model in a file, which may be compressed with gzip.
[[nodiscard]] inline model load_onnx(std::filesystem::path const& path) {
  std::string bytes = read_file(path);
  auto proto = onnx_reader::parse(bytes, path.string());
  std::string().swap(bytes);
  return onnx_reader::importer(std::move(proto), path.string(), {}).run();
}

}  // namespace hull::io
