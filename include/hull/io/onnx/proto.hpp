// SPDX-License-Identifier: Apache-2.0
// The protobuf side of ONNX: parsing the bytes, and the attributes of a node by name.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <google/protobuf/io/coded_stream.h>
#include <onnx/onnx_pb.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <hull/core/error.hpp>

namespace hull::io::onnx_reader {

using model_proto = ::onnx::ModelProto;
using graph_proto = ::onnx::GraphProto;
using node_proto = ::onnx::NodeProto;
using tensor_proto = ::onnx::TensorProto;
using attribute_proto = ::onnx::AttributeProto;

/// A name from the file, fit for a one-line message: no control characters, at most 120 bytes.
[[nodiscard]] inline std::string readable(std::string_view name) {
  std::string text(name.substr(0, 120));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return text + (name.size() > 120 ? "..." : "");
}

[[nodiscard]] inline std::string in_quotes(std::string_view name) { return '"' + readable(name) + '"'; }

/// Throws hull::error if the bytes are no ONNX model with a graph. `source` opens every message.
[[nodiscard]] inline model_proto parse(std::string_view bytes, std::string const& source) {
  expect(bytes.size() < INT_MAX, source + ": larger than 2 GiB, the limit of the ONNX format");
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<std::uint8_t const*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetTotalBytesLimit(INT_MAX);
  model_proto proto;
  expect(proto.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage(),
         source + ": not an ONNX file (protobuf cannot parse it)");
  expect(proto.has_graph(), source + ": not an ONNX model (it has no graph)");
  return proto;
}

/// The attributes of one node. Asking for one with another type than it has throws.
class attribute_list {
 public:
  attribute_list(node_proto const& node, std::string where) : node_(node), where_(std::move(where)) {}

  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }

  [[nodiscard]] std::int64_t integer(std::string_view name, std::int64_t fallback) const {
    auto const* a = find(name, attribute_proto::INT);
    return a ? a->i() : fallback;
  }

  [[nodiscard]] float real(std::string_view name, float fallback) const {
    auto const* a = find(name, attribute_proto::FLOAT);
    return a ? a->f() : fallback;
  }

  [[nodiscard]] std::string text(std::string_view name, std::string_view fallback) const {
    auto const* a = find(name, attribute_proto::STRING);
    return a ? a->s() : std::string(fallback);
  }

  [[nodiscard]] std::optional<std::vector<std::int64_t>> integers(std::string_view name) const {
    auto const* a = find(name, attribute_proto::INTS);
    if (!a) return std::nullopt;
    return std::vector<std::int64_t>(a->ints().begin(), a->ints().end());
  }

  [[nodiscard]] std::optional<std::vector<float>> reals(std::string_view name) const {
    auto const* a = find(name, attribute_proto::FLOATS);
    if (!a) return std::nullopt;
    return std::vector<float>(a->floats().begin(), a->floats().end());
  }

  [[nodiscard]] tensor_proto const* tensor(std::string_view name) const {
    auto const* a = find(name, attribute_proto::TENSOR);
    return a ? &a->t() : nullptr;
  }

 private:
  [[nodiscard]] attribute_proto const* find(std::string_view name,
                                            std::optional<attribute_proto::AttributeType> type = std::nullopt) const {
    for (auto const& a : node_.attribute()) {
      if (a.name() != name) continue;
      // The oldest files leave the type out.
      bool const agrees = !type || a.type() == *type || a.type() == attribute_proto::UNDEFINED;
      expect(agrees, where_ + ": attribute " + in_quotes(name) + " has the wrong type");
      return &a;
    }
    return nullptr;
  }

  node_proto const& node_;
  std::string where_;
};

}  // namespace hull::io::onnx_reader
