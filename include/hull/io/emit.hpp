// SPDX-License-Identifier: Apache-2.0
// Writes a model as a header in the expression language. The text depends on the architecture alone.
//
// Attributes of a node, by operator (all numbers resolved and non-negative; windows are height, width):
//   Linear      features            Reshape    shape        AveragePool  kernel stride pad [exclude_pad]
//   Conv        channels kernel     Squeeze    axes         MaxPool      kernel stride pad dilation
//               stride pad          Unsqueeze  axes         Slice        axis start end step
//               dilation groups     Transpose  perm         Concat       axis
//   Upsample    by                  Spread     by
// A layer with constant operand (Add, Sub, Mul, Div) has a name and one input, the sum of two nodes has none and two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/model.hpp>

namespace hull::io {

/// The nodes that `output` depends on, itself last, as the expression language numbers them: every input's list in
/// turn without the nodes already there, then the node.
[[nodiscard]] inline std::vector<std::size_t> reachable_order(std::vector<node const*> const& nodes,
                                                              std::size_t output) {
  std::vector<std::size_t> order;
  std::vector<bool> listed(nodes.size(), false);
  std::vector<std::pair<std::size_t, std::size_t>> open{{output, 0}};  // node, inputs visited; a stack: graphs are deep
  while (!open.empty()) {
    auto& [i, visited] = open.back();
    if (visited < nodes[i]->inputs.size()) {
      std::size_t const next = nodes[i]->inputs[visited++];
      expect(next < i, "hull::io: a node of the model comes before its input");
      if (!listed[next]) open.emplace_back(next, 0);
    } else {
      order.push_back(i);
      listed[i] = true;
      open.pop_back();
    }
  }
  return order;
}

/// For each node the first one that computes the same: nodes without parameters are equal if operator, attributes and
/// inputs are.
[[nodiscard]] inline std::vector<std::size_t> representatives(model const& m) {
  using key =
      std::pair<std::pair<std::string, std::vector<std::size_t>>, std::map<std::string, std::vector<std::int64_t>>>;
  std::vector<std::size_t> result;
  std::map<key, std::size_t> first;
  for (std::size_t i = 0; i < m.nodes.size(); ++i) {
    node const& n = m.nodes[i];
    std::vector<std::size_t> inputs;
    for (auto const input : n.inputs) {
      expect(input < i, "hull::io: a node of the model comes before its input");
      inputs.push_back(result[input]);
    }
    result.push_back(n.name.empty() ? first.try_emplace({{n.op, inputs}, n.attributes}, i).first->second : i);
  }
  return result;
}

/// Node numbers of the expression language: element k is the node of `m` that is number k of the expression.
[[nodiscard]] inline std::vector<std::size_t> expression_order(model const& m) {
  expect(!m.nodes.empty(), "hull::io: the model has no nodes");
  auto const same = representatives(m);
  std::vector<node> merged = m.nodes;
  std::vector<node const*> parts;
  for (auto& n : merged) {
    for (auto& input : n.inputs) input = same[input];
    parts.push_back(&n);
  }
  return reachable_order(parts, same.back());
}

namespace emitter {

/// "a, b, c"
template <class Numbers>
[[nodiscard]] std::string list(Numbers const& numbers) {
  std::string text;
  for (auto const x : numbers) text += (text.empty() ? "" : ", ") + std::to_string(x);
  return text;
}

[[nodiscard]] inline std::vector<std::int64_t> const& attribute(node const& n, std::string const& name) {
  auto const found = n.attributes.find(name);
  expect(found != n.attributes.end() && !found->second.empty(), "hull::io: " + n.op + " lacks the attribute " + name);
  return found->second;
}

/// ", stride<2, 2>" unless every number is `usual`.
[[nodiscard]] inline std::string optional_list(node const& n, std::string const& name, std::int64_t usual) {
  auto const found = n.attributes.find(name);
  if (found == n.attributes.end()) return "";
  bool unusual = false;
  for (auto const x : found->second) unusual = unusual || x != usual;
  return unusual ? ", " + name + '<' + list(found->second) + '>' : "";
}

/// What stands behind `>>`, or for a merge the name of its function.
[[nodiscard]] inline std::string spell_operator(node const& n) {
  std::string const quoted_name = '"' + n.name + '"';
  auto const windows = [&] {
    return "kernel<" + list(attribute(n, "kernel")) + '>' + optional_list(n, "stride", 1) + optional_list(n, "pad", 0) +
           optional_list(n, "dilation", 1);
  };
  if (n.op == "Linear") return "Linear<" + quoted_name + ", " + list(attribute(n, "features")) + '>';
  if (n.op == "Conv") {
    return "Conv<" + quoted_name + ", " + list(attribute(n, "channels")) + ", " + windows() +
           optional_list(n, "groups", 1) + '>';
  }
  if (n.op == "MaxPool") return "MaxPool<" + windows() + '>';
  if (n.op == "AveragePool") {
    return "AveragePool<" + windows() + (n.attributes.contains("exclude_pad") ? ", exclude_pad>" : ">");
  }
  if (n.op == "Reshape") return "Reshape<" + list(attribute(n, "shape")) + '>';
  if (n.op == "Squeeze" || n.op == "Unsqueeze") return n.op + '<' + list(attribute(n, "axes")) + '>';
  if (n.op == "Transpose") return "Transpose<" + list(attribute(n, "perm")) + '>';
  if (n.op == "Upsample" || n.op == "Spread") return n.op + '<' + list(attribute(n, "by")) + '>';
  if (n.op == "Concat") return "Concat<" + list(attribute(n, "axis")) + '>';
  if (n.op == "Slice") {
    return "Slice<" + list(attribute(n, "axis")) + ", " + list(attribute(n, "start")) + ", " +
           list(attribute(n, "end")) + ", " + list(attribute(n, "step")) + '>';
  }
  return n.name.empty() ? n.op : n.op + '<' + quoted_name + '>';
}

/// An expression under construction: what it starts from and the operators behind it.
struct chain {
  std::string head;
  std::vector<std::string> links;
  bool infix = false;  // the head is a + b or a - b

  /// On one line if it fits behind `prefix`, else one operator per line.
  [[nodiscard]] std::string text(std::string const& prefix) const {
    std::string result = prefix + (infix && !links.empty() ? '(' + head + ')' : head);
    std::size_t width = result.size() + 1;
    for (auto const& link : links) width += link.size() + 4;
    for (auto const& link : links) result += (width <= 120 ? " >> " : "\n      >> ") + link;
    return result + ";\n";
  }
};

}  // namespace emitter

/// The header of the network. The same for all models of one architecture, whatever their weights and file names.
[[nodiscard]] inline std::string emit_header(model const& m) {
  auto const order = expression_order(m);
  auto const same = representatives(m);
  expect(m.nodes[order.front()].op == "Input", "hull::io: the model does not start with its input");

  std::vector<std::size_t> readers(m.nodes.size(), 0);
  std::vector<bool> operand(m.nodes.size(), false);  // of an operator with several inputs
  for (auto const i : order) {
    for (auto const input : m.nodes[i].inputs) {
      ++readers[same[input]];
      operand[same[input]] = operand[same[input]] || m.nodes[i].inputs.size() > 1;
    }
  }

  std::string body = "  auto const input = Input<" + emitter::list(m.nodes[order.front()].shape) + ">;\n";
  std::vector<emitter::chain> chains(m.nodes.size());
  std::size_t variables = 0;
  for (auto const i : order) {
    node const& n = m.nodes[i];
    emitter::chain& self = chains[i];
    if (n.inputs.empty()) {
      self.head = "input";
      if (i == order.back()) body += "  return input;\n";
      continue;
    }
    if (n.inputs.size() == 1) {
      self = readers[same[n.inputs[0]]] > 1 ? chains[same[n.inputs[0]]] : std::move(chains[same[n.inputs[0]]]);
      self.links.push_back(emitter::spell_operator(n));
    } else {
      self.infix = n.op == "Add" || n.op == "Sub";
      std::string const separator = self.infix ? (n.op == "Add" ? " + " : " - ") : ", ";
      for (auto const input : n.inputs) self.head += (self.head.empty() ? "" : separator) + chains[same[input]].head;
      if (!self.infix) self.head = emitter::spell_operator(n) + '(' + self.head + ')';
    }
    if (i == order.back()) {
      body += self.text("  return ");
    } else if (readers[i] > 1 || operand[i]) {
      std::string const name = 'x' + std::to_string(++variables);
      body += self.text("  auto const " + name + " = ");
      self = {name, {}, false};
    }
  }
  return "// Generated by hull: describes the architecture only; the numbers are in the parameter file.\n"
         "#pragma once\n"
         "#include <hull/net/network.hpp>\n\n"
         "inline constexpr auto network_graph() {\n"
         "  using namespace hull;\n" +
         body +
         "}\n"
         "struct network final : decltype(network_graph()) {};\n";
}

}  // namespace hull::io
