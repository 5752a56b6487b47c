// SPDX-License-Identifier: Apache-2.0
// Any bytes as an ONNX file: either hull::error with one line, or a model that can be emitted and evaluated.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <google/protobuf/stubs/logging.h>
#include <string>
#include <string_view>
#include <vector>

#include <hull/io/emit.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/io/onnx.hpp>

namespace {

/// A bound on the additions of one evaluation: a tiny file can describe a huge network.
std::size_t work(hull::io::model const& m) {
  std::size_t total = 0;
  for (auto const& n : m.nodes) {
    std::size_t each = 1;
    if (auto const kernel = n.attributes.find("kernel"); kernel != n.attributes.end()) {
      for (auto const k : kernel->second) each *= static_cast<std::size_t>(k);
    }
    if (auto const weight = m.parameters.find(n.name + ".weight"); weight != m.parameters.end()) {
      each *= weight->second.values.size();
    }
    std::size_t size = 1;
    for (auto const d : n.shape) size *= d;
    total += size * each;
  }
  return total;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static google::protobuf::LogSilencer const silence;
  try {
    std::string_view const bytes(reinterpret_cast<char const*>(data), size);
    hull::io::model const m = hull::io::read_onnx(bytes, "fuzz.onnx", {std::size_t{1} << 16});
    auto const order = hull::io::expression_order(m);
    if (order.size() != m.nodes.size()) std::abort();
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] != i) std::abort();
    }
    if (hull::io::emit_header(m).empty()) std::abort();
    if (work(m) > std::size_t{1} << 22) return 0;
    std::size_t inputs = 1;
    for (auto const d : m.nodes.front().shape) inputs *= d;
    auto const values = hull::io::evaluate_all(m, std::vector<double>(inputs, 0.0));
    for (std::size_t i = 0; i < m.nodes.size(); ++i) {
      std::size_t expected = 1;
      for (auto const d : m.nodes[i].shape) expected *= d;
      if (values[i].size() != expected) std::abort();
    }
  } catch (hull::error const& e) {
    if (std::string_view(e.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
