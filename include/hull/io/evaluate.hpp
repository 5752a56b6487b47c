// SPDX-License-Identifier: Apache-2.0
// Runs a model in double precision: to check a counterexample again, and as the oracle of tests. Clear before fast.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/model.hpp>

namespace hull::io {

/// One function for each operator; the way from its name to it is the table `evaluators`.
namespace reference {

/// The values of one node, row major.
using reals = std::vector<double>;

[[nodiscard]] inline std::size_t elements(shape const& dims) {
  std::size_t product = 1;
  for (auto const d : dims) product *= d;
  return product;
}

/// One node of the model with its operands at hand.
struct evaluation {
  model const& m;
  node const& n;
  std::vector<reals const*> in;

  [[nodiscard]] reals const& x() const { return *in[0]; }
  [[nodiscard]] shape const& in_shape(std::size_t i = 0) const { return m.nodes[n.inputs[i]].shape; }
  [[nodiscard]] tensor const& parameter(std::string const& key) const {
    auto const found = m.parameters.find(n.name + '.' + key);
    expect(found != m.parameters.end(), "hull::io: the model lacks the parameter " + n.name + '.' + key);
    return found->second;
  }
  [[nodiscard]] std::vector<std::size_t> numbers(std::string const& key, std::vector<std::size_t> usual) const {
    auto const found = n.attributes.find(key);
    if (found == n.attributes.end()) return usual;
    return {found->second.begin(), found->second.end()};
  }
};

template <class F>
[[nodiscard]] reals map_elements(reals const& x, F f) {
  reals y(x.size());
  std::transform(x.begin(), x.end(), y.begin(), f);
  return y;
}

/// f(element, constant of the same place)
template <class F>
[[nodiscard]] reals with_constant(evaluation const& e, F f) {
  auto const& k = e.parameter("constant").values;
  reals y(e.x().size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = f(e.x()[i], static_cast<double>(k[i]));
  return y;
}

[[nodiscard]] inline reals add_or_subtract(evaluation const& e, double sign) {
  if (e.in.size() == 1) return with_constant(e, [sign](double x, double k) { return x + sign * k; });
  reals y(e.x().size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = (*e.in[0])[i] + sign * (*e.in[1])[i];
  return y;
}

using row_vector = Eigen::Map<Eigen::RowVectorXf const>;
using column_vector = Eigen::Map<Eigen::VectorXd const>;

[[nodiscard]] inline reals linear(evaluation const& e) {
  auto const& weight = e.parameter("weight");
  auto const& bias = e.parameter("bias").values;
  auto const in = static_cast<Eigen::Index>(weight.shape[1]);
  column_vector const x(e.x().data(), in);
  reals y(weight.shape[0]);
  for (std::size_t o = 0; o < y.size(); ++o) {
    row_vector const row(weight.values.data() + o * weight.shape[1], in);
    y[o] = row.cast<double>().dot(x) + static_cast<double>(bias[o]);
  }
  return y;
}

/// A window of a convolution or a pool, and the positions it visits.
struct window_walk {
  std::vector<std::size_t> kernel, stride, pad, dilation;
  std::size_t height, width;          // of the input
  std::size_t out_height, out_width;  // of the output

  explicit window_walk(evaluation const& e)
      : kernel(e.numbers("kernel", {1, 1})),
        stride(e.numbers("stride", {1, 1})),
        pad(e.numbers("pad", {0, 0, 0, 0})),
        dilation(e.numbers("dilation", {1, 1})),
        height(e.in_shape()[1]),
        width(e.in_shape()[2]),
        out_height(e.n.shape[1]),
        out_width(e.n.shape[2]) {}

  /// Calls f(position in the kernel, row, column) for the elements of window (oh, ow) that lie inside the image.
  template <class F>
  void visit(std::size_t oh, std::size_t ow, F f) const {
    for (std::size_t kh = 0; kh < kernel[0]; ++kh) {
      std::size_t const row = oh * stride[0] + kh * dilation[0];
      if (row < pad[0] || row - pad[0] >= height) continue;
      for (std::size_t kw = 0; kw < kernel[1]; ++kw) {
        std::size_t const column = ow * stride[1] + kw * dilation[1];
        if (column < pad[1] || column - pad[1] >= width) continue;
        f(kh * kernel[1] + kw, row - pad[0], column - pad[1]);
      }
    }
  }
};

[[nodiscard]] inline reals convolution(evaluation const& e) {
  window_walk const w(e);
  auto const& weight = e.parameter("weight");
  auto const& bias = e.parameter("bias").values;
  std::size_t const groups = e.numbers("groups", {1})[0];
  std::size_t const out_each = weight.shape[0] / groups, in_each = weight.shape[1];
  std::size_t const area = w.kernel[0] * w.kernel[1], plane = w.height * w.width,
                    out_plane = w.out_height * w.out_width;
  auto const taps = static_cast<Eigen::Index>(in_each * area);
  using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using weights = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const>;
  reals y(e.n.shape[0] * out_plane);
  Eigen::MatrixXd patches(taps, static_cast<Eigen::Index>(w.out_width));  // of one output row
  for (std::size_t g = 0; g < groups; ++g) {
    matrix const kernel =
        weights(weight.values.data() + g * out_each * in_each * area, static_cast<Eigen::Index>(out_each), taps)
            .cast<double>();
    for (std::size_t oh = 0; oh < w.out_height; ++oh) {
      patches.setZero();
      for (std::size_t ow = 0; ow < w.out_width; ++ow) {
        w.visit(oh, ow, [&](std::size_t k, std::size_t row, std::size_t column) {
          for (std::size_t c = 0; c < in_each; ++c) {
            patches(static_cast<Eigen::Index>(c * area + k), static_cast<Eigen::Index>(ow)) =
                e.x()[(g * in_each + c) * plane + row * w.width + column];
          }
        });
      }
      matrix const sums = kernel * patches;
      for (std::size_t o = 0; o < out_each; ++o) {
        std::size_t const channel = g * out_each + o;
        for (std::size_t ow = 0; ow < w.out_width; ++ow) {
          y[channel * out_plane + oh * w.out_width + ow] =
              sums(static_cast<Eigen::Index>(o), static_cast<Eigen::Index>(ow)) + static_cast<double>(bias[channel]);
        }
      }
    }
  }
  return y;
}

/// f(window's elements in the image) for every channel and window.
template <class F>
[[nodiscard]] reals pool(evaluation const& e, F f) {
  window_walk const w(e);
  reals y, seen;
  y.reserve(elements(e.n.shape));
  for (std::size_t c = 0; c < e.n.shape[0]; ++c) {
    for (std::size_t oh = 0; oh < w.out_height; ++oh) {
      for (std::size_t ow = 0; ow < w.out_width; ++ow) {
        seen.clear();
        w.visit(oh, ow, [&](std::size_t, std::size_t row, std::size_t column) {
          seen.push_back(e.x()[(c * w.height + row) * w.width + column]);
        });
        y.push_back(f(seen));
      }
    }
  }
  return y;
}

[[nodiscard]] inline reals max_pool(evaluation const& e) {
  return pool(e, [](reals const& seen) { return *std::max_element(seen.begin(), seen.end()); });
}

[[nodiscard]] inline double sum(reals const& x) {
  double total = 0;
  for (double const v : x) total += v;
  return total;
}

[[nodiscard]] inline reals average_pool(evaluation const& e) {
  auto const kernel = e.numbers("kernel", {1, 1});
  bool const exclude = e.n.attributes.contains("exclude_pad");
  return pool(e, [&](reals const& seen) {
    return sum(seen) / static_cast<double>(exclude ? seen.size() : kernel[0] * kernel[1]);
  });
}

[[nodiscard]] inline reals global_average_pool(evaluation const& e) {
  std::size_t const plane = e.in_shape()[1] * e.in_shape()[2];
  reals y;
  for (std::size_t c = 0; c < e.n.shape[0]; ++c) {
    auto const first = e.x().begin() + static_cast<std::ptrdiff_t>(c * plane);
    y.push_back(sum({first, first + static_cast<std::ptrdiff_t>(plane)}) / static_cast<double>(plane));
  }
  return y;
}

[[nodiscard]] inline reals batch_normalization(evaluation const& e) {
  auto const& scale = e.parameter("scale").values;
  auto const& bias = e.parameter("bias").values;
  auto const& mean = e.parameter("mean").values;
  auto const& variance = e.parameter("variance").values;
  auto const epsilon = static_cast<double>(e.parameter("epsilon").values[0]);
  std::size_t const each = e.x().size() / e.in_shape()[0];
  reals y(e.x().size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    std::size_t const c = i / each;
    auto const deviation = std::sqrt(static_cast<double>(variance[c]) + epsilon);
    y[i] = (e.x()[i] - static_cast<double>(mean[c])) / deviation * static_cast<double>(scale[c]) +
           static_cast<double>(bias[c]);
  }
  return y;
}

[[nodiscard]] inline reals transpose(evaluation const& e) {
  auto const perm = e.numbers("perm", {});
  shape const& from = e.in_shape();
  std::vector<std::size_t> step(from.size(), 1), at(from.size(), 0);
  for (std::size_t a = from.size(); a-- > 1;) step[a - 1] = step[a] * from[a];
  reals y(e.x().size());
  for (auto& v : y) {
    std::size_t source = 0;
    for (std::size_t a = 0; a < at.size(); ++a) source += at[a] * step[perm[a]];
    v = e.x()[source];
    for (std::size_t a = at.size(); a-- > 0;) {
      if (++at[a] < e.n.shape[a]) break;
      at[a] = 0;
    }
  }
  return y;
}

/// The elements before, along and after one axis of a shape.
struct axis_view {
  std::size_t outer = 1, extent = 1, inner = 1;
  axis_view(shape const& dims, std::size_t axis) : extent(dims[axis]) {
    for (std::size_t a = 0; a < dims.size(); ++a) (a < axis ? outer : inner) *= a == axis ? 1 : dims[a];
  }
};

[[nodiscard]] inline reals slice(evaluation const& e) {
  std::size_t const axis = e.numbers("axis", {0})[0], start = e.numbers("start", {0})[0],
                    step = e.numbers("step", {1})[0];
  axis_view const from(e.in_shape(), axis);
  reals y;
  y.reserve(elements(e.n.shape));
  for (std::size_t o = 0; o < from.outer; ++o) {
    for (std::size_t k = 0; k < e.n.shape[axis]; ++k) {
      auto const first = e.x().begin() + static_cast<std::ptrdiff_t>((o * from.extent + start + k * step) * from.inner);
      y.insert(y.end(), first, first + static_cast<std::ptrdiff_t>(from.inner));
    }
  }
  return y;
}

[[nodiscard]] inline reals concat(evaluation const& e) {
  std::size_t const axis = e.numbers("axis", {0})[0];
  axis_view const whole(e.n.shape, axis);
  reals y;
  y.reserve(elements(e.n.shape));
  for (std::size_t o = 0; o < whole.outer; ++o) {
    for (std::size_t i = 0; i < e.in.size(); ++i) {
      std::size_t const block = e.in_shape(i)[axis] * whole.inner;
      auto const first = e.in[i]->begin() + static_cast<std::ptrdiff_t>(o * block);
      y.insert(y.end(), first, first + static_cast<std::ptrdiff_t>(block));
    }
  }
  return y;
}

[[nodiscard]] inline reals upsample(evaluation const& e) {
  auto const by = e.numbers("by", {1, 1});
  shape const &from = e.in_shape(), &to = e.n.shape;
  reals y;
  y.reserve(elements(to));
  for (std::size_t c = 0; c < to[0]; ++c) {
    for (std::size_t i = 0; i < to[1]; ++i) {
      for (std::size_t j = 0; j < to[2]; ++j) y.push_back(e.x()[(c * from[1] + i / by[0]) * from[2] + j / by[1]]);
    }
  }
  return y;
}

[[nodiscard]] inline reals spread(evaluation const& e) {
  auto const by = e.numbers("by", {1, 1});
  shape const &from = e.in_shape(), &to = e.n.shape;
  reals y(elements(to));
  for (std::size_t c = 0; c < from[0]; ++c) {
    for (std::size_t i = 0; i < from[1]; ++i) {
      for (std::size_t j = 0; j < from[2]; ++j) {
        y[(c * to[1] + i * by[0]) * to[2] + j * by[1]] = e.x()[(c * from[1] + i) * from[2] + j];
      }
    }
  }
  return y;
}

using evaluator = reals (*)(evaluation const&);

[[nodiscard]] inline std::map<std::string_view, evaluator> const& evaluators() {
  constexpr evaluator same = [](evaluation const& e) { return e.x(); };
  static std::map<std::string_view, evaluator> const table = {
      {"Linear", linear},
      {"Conv", convolution},
      {"MaxPool", max_pool},
      {"AveragePool", average_pool},
      {"GlobalAveragePool", global_average_pool},
      {"BatchNormalization", batch_normalization},
      {"Transpose", transpose},
      {"Slice", slice},
      {"Concat", concat},
      {"Upsample", upsample},
      {"Spread", spread},
      {"Flatten", same},
      {"Reshape", same},
      {"Squeeze", same},
      {"Unsqueeze", same},
      {"Identity", same},
      {"Dropout", same},
      {"Add", [](evaluation const& e) { return add_or_subtract(e, 1); }},
      {"Sub", [](evaluation const& e) { return add_or_subtract(e, -1); }},
      {"Mul", [](evaluation const& e) { return with_constant(e, [](double x, double k) { return x * k; }); }},
      {"Div", [](evaluation const& e) { return with_constant(e, [](double x, double k) { return x / k; }); }},
      {"Neg", [](evaluation const& e) { return map_elements(e.x(), [](double x) { return -x; }); }},
      {"Relu", [](evaluation const& e) { return map_elements(e.x(), [](double x) { return x > 0 ? x : 0.0; }); }},
      {"Tanh", [](evaluation const& e) { return map_elements(e.x(), [](double x) { return std::tanh(x); }); }},
      {"Sigmoid",
       [](evaluation const& e) { return map_elements(e.x(), [](double x) { return 1 / (1 + std::exp(-x)); }); }},
      {"LeakyRelu",
       [](evaluation const& e) {
         auto const alpha = static_cast<double>(e.parameter("alpha").values[0]);
         return map_elements(e.x(), [alpha](double x) { return x > 0 ? x : alpha * x; });
       }},
  };
  return table;
}

}  // namespace reference

/// The values of every node at input `x`, given flat.     Returns [nodes] vectors.
/// Throws hull::error if `x` does not have the size of the input or an operator is unknown.
[[nodiscard]] inline std::vector<std::vector<double>> evaluate_all(model const& m, std::span<double const> x) {
  expect(!m.nodes.empty() && m.nodes[0].op == "Input", "hull::io: the model does not start with its input");
  std::size_t const expected = reference::elements(m.nodes[0].shape);
  expect(x.size() == expected, m.source + ": the input has " + std::to_string(x.size()) +
                                   " values, the network expects " + std::to_string(expected));
  std::vector<std::vector<double>> result;
  result.reserve(m.nodes.size());
  result.emplace_back(x.begin(), x.end());
  for (std::size_t i = 1; i < m.nodes.size(); ++i) {
    node const& n = m.nodes[i];
    auto const found = reference::evaluators().find(n.op);
    expect(found != reference::evaluators().end() && !n.inputs.empty(),
           m.source + ": operator " + n.op + " cannot be evaluated");
    reference::evaluation e{m, n, {}};
    for (auto const input : n.inputs) {
      expect(input < i, "hull::io: a node of the model comes before its input");
      e.in.push_back(&result[input]);
    }
    result.push_back(found->second(e));
  }
  return result;
}

/// The output of the network at input `x`, in double precision with the float parameters as they are.
[[nodiscard]] inline std::vector<double> evaluate(model const& m, std::span<double const> x) {
  return std::move(evaluate_all(m, x).back());
}

}  // namespace hull::io
