// SPDX-License-Identifier: Apache-2.0
// Builds small ONNX files for the tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <onnx/onnx_pb.h>
#include <string>
#include <string_view>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/io/onnx.hpp>

namespace test {

using names = std::vector<std::string>;
using integers = std::vector<std::int64_t>;
using floats = std::vector<float>;

/// A graph from input "x" to output "y".
struct onnx_graph {
  ::onnx::ModelProto proto;

  explicit onnx_graph(integers const& input, int type = ::onnx::TensorProto::FLOAT) {
    proto.add_opset_import()->set_version(13);
    add_input("x", input, type);
    proto.mutable_graph()->add_output()->set_name("y");
  }

  /// A dimension of -7 is symbolic.
  void add_input(std::string const& name, integers const& dims, int type = ::onnx::TensorProto::FLOAT) {
    auto* input = proto.mutable_graph()->add_input();
    input->set_name(name);
    auto* tensor = input->mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(type);
    tensor->mutable_shape();
    for (auto const d : dims) {
      auto* dim = tensor->mutable_shape()->add_dim();
      if (d == -7) {
        dim->set_dim_param("batch");
      } else {
        dim->set_dim_value(d);
      }
    }
  }

  ::onnx::NodeProto& node(std::string const& op, names const& inputs, names const& outputs = {"y"}) {
    auto* n = proto.mutable_graph()->add_node();
    n->set_op_type(op);
    n->set_name(op + '_' + std::to_string(proto.graph().node_size()));
    for (auto const& i : inputs) n->add_input(i);
    for (auto const& o : outputs) n->add_output(o);
    return *n;
  }

  ::onnx::TensorProto& constant(std::string const& name, integers const& dims, floats const& values) {
    auto& t = empty_constant(name, dims, ::onnx::TensorProto::FLOAT);
    for (auto const v : values) t.add_float_data(v);
    return t;
  }
  ::onnx::TensorProto& indices(std::string const& name, integers const& dims, integers const& values) {
    auto& t = empty_constant(name, dims, ::onnx::TensorProto::INT64);
    for (auto const v : values) t.add_int64_data(v);
    return t;
  }
  ::onnx::TensorProto& list(std::string const& name, integers const& values) {
    return indices(name, {static_cast<std::int64_t>(values.size())}, values);
  }
  ::onnx::TensorProto& empty_constant(std::string const& name, integers const& dims, int type) {
    auto* t = proto.mutable_graph()->add_initializer();
    t->set_name(name);
    t->set_data_type(type);
    for (auto const d : dims) t->add_dims(d);
    return *t;
  }

  [[nodiscard]] hull::io::model read() const { return hull::io::read_onnx(proto.SerializeAsString(), "test.onnx"); }
  [[nodiscard]] std::vector<double> run(std::vector<double> const& x) const { return hull::io::evaluate(read(), x); }

  /// The message with which the file is refused, or "accepted".
  [[nodiscard]] std::string refusal() const {
    try {
      static_cast<void>(read());
      return "accepted";
    } catch (hull::error const& e) {
      return e.what();
    }
  }
};

inline void set(::onnx::NodeProto& node, std::string const& name, std::int64_t value) {
  auto* a = node.add_attribute();
  a->set_name(name);
  a->set_type(::onnx::AttributeProto::INT);
  a->set_i(value);
}
inline void set(::onnx::NodeProto& node, std::string const& name, int value) { set(node, name, std::int64_t{value}); }
inline void set(::onnx::NodeProto& node, std::string const& name, float value) {
  auto* a = node.add_attribute();
  a->set_name(name);
  a->set_type(::onnx::AttributeProto::FLOAT);
  a->set_f(value);
}
inline void set(::onnx::NodeProto& node, std::string const& name, integers const& values) {
  auto* a = node.add_attribute();
  a->set_name(name);
  a->set_type(::onnx::AttributeProto::INTS);
  for (auto const v : values) a->add_ints(v);
}
inline void set(::onnx::NodeProto& node, std::string const& name, char const* text) {
  auto* a = node.add_attribute();
  a->set_name(name);
  a->set_type(::onnx::AttributeProto::STRING);
  a->set_s(text);
}

/// The operators of the model, input first.
inline names operators(hull::io::model const& m) {
  names result;
  for (auto const& n : m.nodes) result.push_back(n.op);
  return result;
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace test
