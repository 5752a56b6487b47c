// SPDX-License-Identifier: Apache-2.0
// A model as the checker of certificates sees it: a list of steps, each an affine map or one of three nonlinear kinds.
//
// All sums are done in double, rounded to nearest, and their error is bounded beside them: k roundings err by at most
// gamma(k) times the sum of magnitudes (Higham 2002, lemma 3.1). So a step keeps how many roundings its sums meet.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/emit.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/io/model.hpp>

namespace hull::io::check {

using row_matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using index = Eigen::Index;

/// At least k v / (1 - k v) for v = 2^-53 and eight roundings more, which pay for what is done with the bound itself.
[[nodiscard]] inline double gamma(std::size_t roundings) {
  double const error = static_cast<double>(roundings + 8) * 0x1p-53;
  return error < 0.25 ? 1.01 * error / (1 - error) : std::numeric_limits<double>::infinity();
}

enum class step_kind {
  input,
  dense,        // y = W x + b
  convolution,  // the same, W given by its kernel
  sparse,       // the same, W given by its elements; also sums of several operands
  kinked,       // y = x for x >= 0, leak x for x <= 0
  curved,       // Sigmoid, Tanh
  largest,      // of windows
};

/// One element of a sparse matrix.
struct entry final {
  std::uint32_t out = 0;
  std::uint32_t operand = 0;
  std::uint32_t in = 0;
  double weight = 0;
};

struct step final {
  step_kind kind = step_kind::input;
  std::string op;
  std::vector<std::size_t> inputs;  // numbers of steps
  std::size_t size = 1;

  // affine: |weight of the model - weight here| <= weight_error |weight here|, for the bias <= weight_error bias_size
  row_matrix weight;                // dense: [out, in]; convolution: [group, out of it, taps] as one matrix
  row_matrix size_of_weight;        // |weight|
  std::vector<entry> entries;       // sparse, in order of `out`
  Eigen::VectorXd bias, bias_size;  // [size]
  double weight_error = 0;
  std::size_t forward_terms = 1, backward_terms = 1;  // products in a sum, at most
  bool elementwise = false;  // every output depends on one input alone: then the image of a box is a box

  // convolution: element of the operand that tap t of window p of group g sees, or -1 outside the image
  std::vector<std::int32_t> seen;  // [group, taps, windows]
  std::size_t groups = 1, taps = 0, windows = 0;

  double leak = 0;                                  // kinked
  std::vector<std::vector<std::uint32_t>> members;  // largest: elements of each window

  [[nodiscard]] bool affine() const {
    return kind == step_kind::dense || kind == step_kind::convolution || kind == step_kind::sparse;
  }
};

/// Builds steps from the nodes of a model; what an operator means is taken from io/evaluate.hpp.
class network final {
 public:
  /// Steps have the numbers of the expression's nodes. Throws hull::error for operators that are not known here.
  explicit network(model const& m) {
    auto const order = expression_order(m);
    auto const same = representatives(m);
    std::vector<std::size_t> number(m.nodes.size(), 0);
    for (std::size_t k = 0; k < order.size(); ++k) number[order[k]] = k;
    for (std::size_t const i : order) {
      node const& n = m.nodes[i];
      step s;
      s.op = n.op;
      s.size = reference::elements(n.shape);
      for (auto const input : n.inputs) s.inputs.push_back(number[same[input]]);
      build(m, n, s);
      s.elementwise = steps_.empty() || (s.elementwise && s.inputs.size() == 1 && steps_[s.inputs[0]].elementwise);
      steps_.push_back(std::move(s));
    }
  }

  [[nodiscard]] std::vector<step> const& steps() const { return steps_; }
  [[nodiscard]] std::size_t inputs() const { return steps_.front().size; }
  [[nodiscard]] std::size_t outputs() const { return steps_.back().size; }

 private:
  static constexpr double float_unit = 0x1.01p-24;  // and a little more

  void build(model const& m, node const& n, step& s) const {
    reference::evaluation const e{m, n, {}};
    auto const operand_size = [&](std::size_t i) { return steps_[s.inputs[i]].size; };
    s.bias = s.bias_size = Eigen::VectorXd::Zero(static_cast<index>(s.size));
    if (n.op == "Input") {
      expect(steps_.empty() && s.inputs.empty(), "check: the model has more than one input");
      s.elementwise = true;
    } else if (n.op == "Linear") {
      dense(e, s);
    } else if (n.op == "Conv") {
      convolution(e, s);
    } else if (n.op == "Relu" || n.op == "LeakyRelu") {
      s.kind = step_kind::kinked;
      if (n.op == "LeakyRelu") s.leak = static_cast<double>(e.parameter("alpha").values.at(0));
    } else if (n.op == "Sigmoid" || n.op == "Tanh") {
      s.kind = step_kind::curved;
    } else if (n.op == "MaxPool") {
      s.kind = step_kind::largest;
      each_window(e, s, [&](std::uint32_t, std::vector<std::uint32_t> const& seen) { s.members.push_back(seen); });
    } else if (n.op == "AveragePool" || n.op == "GlobalAveragePool") {
      s.kind = step_kind::sparse;
      means(e, s);
    } else if ((n.op == "Add" || n.op == "Sub") && n.inputs.size() == 2) {
      s.kind = step_kind::sparse;
      double const sign = n.op == "Add" ? 1 : -1;
      for (std::uint32_t k = 0; k < s.size; ++k) {
        s.entries.push_back({k, 0, k, 1});
        s.entries.push_back({k, 1, k, sign});
      }
    } else if (pointwise(e, s)) {
      s.kind = step_kind::sparse;
      s.elementwise = true;
    } else {
      moves(e, s, operand_size);
    }
    if (s.kind == step_kind::sparse) count_terms(s, operand_size);
  }

  static void dense(reference::evaluation const& e, step& s) {
    s.kind = step_kind::dense;
    tensor const& w = e.parameter("weight");
    tensor const& b = e.parameter("bias");
    using floats = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const>;
    s.weight = floats(w.values.data(), static_cast<index>(w.shape[0]), static_cast<index>(w.shape[1])).cast<double>();
    take_bias(b, 1, s);
    if (w.rounded || b.rounded) s.weight_error = float_unit;
    s.size_of_weight = s.weight.cwiseAbs();
    s.forward_terms = w.shape[1];
    s.backward_terms = w.shape[0];
  }

  static void convolution(reference::evaluation const& e, step& s) {
    s.kind = step_kind::convolution;
    tensor const& w = e.parameter("weight");
    tensor const& b = e.parameter("bias");
    reference::window_walk const walk(e);
    std::size_t const area = walk.kernel[0] * walk.kernel[1], in_each = w.shape[1];
    std::size_t const plane = walk.height * walk.width;
    s.groups = e.numbers("groups", {1})[0];
    s.taps = in_each * area;
    s.windows = walk.out_height * walk.out_width;
    using floats = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const>;
    s.weight = floats(w.values.data(), static_cast<index>(w.shape[0]), static_cast<index>(s.taps)).cast<double>();
    take_bias(b, s.windows, s);
    if (w.rounded || b.rounded) s.weight_error = float_unit;
    s.size_of_weight = s.weight.cwiseAbs();
    s.forward_terms = s.taps;
    // a product over the outputs of the group, then a sum over the windows that see the element
    s.backward_terms = w.shape[0] / s.groups + area;
    s.seen.assign(s.groups * s.taps * s.windows, -1);
    for (std::size_t oh = 0; oh < walk.out_height; ++oh) {
      for (std::size_t ow = 0; ow < walk.out_width; ++ow) {
        walk.visit(oh, ow, [&](std::size_t k, std::size_t row, std::size_t column) {
          for (std::size_t c = 0; c < s.groups * in_each; ++c) {
            std::size_t const tap = (c % in_each) * area + k + (c / in_each) * s.taps;
            s.seen[tap * s.windows + oh * walk.out_width + ow] =
                static_cast<std::int32_t>(c * plane + row * walk.width + column);
          }
        });
      }
    }
  }

  /// One bias for `repeat` elements each.
  static void take_bias(tensor const& b, std::size_t repeat, step& s) {
    for (std::size_t k = 0; k < s.size; ++k) {
      s.bias[static_cast<index>(k)] = static_cast<double>(b.values.at(k / repeat));
    }
    s.bias_size = s.bias.cwiseAbs();
  }

  /// f(number of the window, elements of the operand that it sees)
  template <class F>
  static void each_window(reference::evaluation const& e, step const& s, F&& f) {
    reference::window_walk const walk(e);
    std::size_t const plane = walk.height * walk.width, windows = walk.out_height * walk.out_width;
    std::vector<std::uint32_t> seen;
    for (std::uint32_t k = 0; k < s.size; ++k) {
      std::size_t const channel = k / windows, at = k % windows;
      seen.clear();
      walk.visit(at / walk.out_width, at % walk.out_width, [&](std::size_t, std::size_t row, std::size_t column) {
        seen.push_back(static_cast<std::uint32_t>(channel * plane + row * walk.width + column));
      });
      expect(!seen.empty(), "check: a window sees nothing");
      f(k, seen);
    }
  }

  static void means(reference::evaluation const& e, step& s) {
    if (e.n.op == "GlobalAveragePool") {
      std::size_t const plane = e.in_shape()[1] * e.in_shape()[2];
      for (std::uint32_t i = 0; i < s.size * plane; ++i) {
        s.entries.push_back({static_cast<std::uint32_t>(i / plane), 0, i, 1 / static_cast<double>(plane)});
      }
    } else {
      auto const kernel = e.numbers("kernel", {1, 1});
      bool const exclude = e.n.attributes.contains("exclude_pad");
      each_window(e, s, [&](std::uint32_t k, std::vector<std::uint32_t> const& seen) {
        double const mean = 1 / static_cast<double>(exclude ? seen.size() : kernel[0] * kernel[1]);
        for (auto const i : seen) s.entries.push_back({k, 0, i, mean});
      });
    }
    s.weight_error = 0x1p-52;
  }

  /// y = weight x + bias, element by element. False for other operators.
  static bool pointwise(reference::evaluation const& e, step& s) {
    std::string const& op = e.n.op;
    auto const constant = [&](std::size_t k) { return static_cast<double>(e.parameter("constant").values.at(k)); };
    if (op == "Neg") {
      for (std::uint32_t k = 0; k < s.size; ++k) s.entries.push_back({k, 0, k, -1});
    } else if (op == "Add" || op == "Sub") {
      for (std::uint32_t k = 0; k < s.size; ++k) {
        s.entries.push_back({k, 0, k, 1});
        s.bias[k] = op == "Add" ? constant(k) : -constant(k);
      }
      s.bias_size = s.bias.cwiseAbs();
    } else if (op == "Mul" || op == "Div") {
      for (std::uint32_t k = 0; k < s.size; ++k) {
        s.entries.push_back({k, 0, k, op == "Mul" ? constant(k) : 1 / constant(k)});
      }
      s.weight_error = op == "Mul" ? 0 : 0x1p-52;
    } else if (op == "BatchNormalization") {
      std::size_t const each = s.size / e.in_shape()[0];
      auto const number = [&](char const* key, std::size_t at) {
        return static_cast<double>(e.parameter(key).values.at(at));
      };
      for (std::uint32_t k = 0; k < s.size; ++k) {
        std::size_t const c = k / each;
        double const gain = number("scale", c) / std::sqrt(number("variance", c) + number("epsilon", 0));
        s.entries.push_back({k, 0, k, gain});
        s.bias[k] = number("bias", c) - number("mean", c) * gain;
        s.bias_size[k] = std::fabs(number("bias", c)) + std::fabs(number("mean", c) * gain);
      }
      s.weight_error = 16 * 0x1p-53;  // a sum, a root, a quotient, a product and a sum
    } else {
      return false;
    }
    return true;
  }

  /// Operators that move elements: run on numbers 1, 2, 3, ... they say where each of them comes from; 0 from nowhere.
  template <class Size>
  void moves(reference::evaluation e, step& s, Size const& operand_size) const {
    static constexpr std::string_view known[] = {"Flatten", "Reshape",   "Squeeze", "Unsqueeze", "Identity", "Dropout",
                                                 "Slice",   "Transpose", "Concat",  "Upsample",  "Spread"};
    expect(std::find(std::begin(known), std::end(known), e.n.op) != std::end(known),
           "check: operator " + e.n.op + " is not known");
    s.kind = step_kind::sparse;
    s.elementwise = true;
    std::vector<reference::reals> numbers(s.inputs.size());
    std::size_t first = 0;
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < s.inputs.size(); ++i) {
      numbers[i].resize(operand_size(i));
      std::iota(numbers[i].begin(), numbers[i].end(), static_cast<double>(first + 1));
      starts.push_back(first);
      first += operand_size(i);
      e.in.push_back(&numbers[i]);
    }
    auto const source = reference::evaluators().at(e.n.op)(e);
    for (std::uint32_t k = 0; k < s.size; ++k) {
      if (source[k] == 0) continue;
      auto const from = static_cast<std::size_t>(source[k]) - 1;
      auto const operand =
          static_cast<std::size_t>(std::upper_bound(starts.begin(), starts.end(), from) - starts.begin() - 1);
      s.entries.push_back(
          {k, static_cast<std::uint32_t>(operand), static_cast<std::uint32_t>(from - starts[operand]), 1});
    }
  }

  template <class Size>
  static void count_terms(step& s, Size const& operand_size) {
    std::vector<std::size_t> outs(s.size, 0);
    std::map<std::uint32_t, std::vector<std::size_t>> ins;
    for (entry const& one : s.entries) {
      auto& uses = ins[one.operand];
      if (uses.empty()) uses.assign(operand_size(one.operand), 0);
      s.forward_terms = std::max(s.forward_terms, ++outs[one.out]);
      s.backward_terms = std::max(s.backward_terms, ++uses[one.in]);
    }
  }

  std::vector<step> steps_;
};

}  // namespace hull::io::check
