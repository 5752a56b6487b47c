// SPDX-License-Identifier: Apache-2.0
// Runs a network plainly, one number after the other, as ONNX defines its operators: the oracle of the tests. It shares
// nothing with the library but the types of the operators, so that shapes and index maps are checked too.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <hull/net/network.hpp>

namespace hull::reference {

using sizes = std::vector<std::size_t>;

/// A tensor, row major.
template <class T>
struct tensor final {
  sizes dims;
  std::vector<T> data;
};

[[nodiscard]] inline std::size_t count(sizes const& dims) {
  std::size_t product = 1;
  for (auto const d : dims) product *= d;
  return product;
}

/// Place of an index in memory.
[[nodiscard]] inline std::size_t place(sizes const& dims, sizes const& index) {
  std::size_t at = 0;
  for (std::size_t axis = 0; axis < dims.size(); ++axis) at = at * dims[axis] + index[axis];
  return at;
}

/// Calls f(index) for every index of a tensor of this shape.
template <class F>
void for_each_index(sizes const& dims, F&& f) {
  sizes index(dims.size(), 0);
  for (std::size_t left = count(dims); left > 0; --left) {
    f(static_cast<sizes const&>(index));
    for (std::size_t axis = dims.size(); axis-- > 0;) {
      if (++index[axis] < dims[axis]) break;
      index[axis] = 0;
    }
  }
}

/// The parameters of a network by key. A source for hull::parameters.
struct parameter_map final {
  std::map<std::string, std::vector<float>> tensors;
  bool rounded = false;

  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    auto const found = tensors.find(key);
    return found == tensors.end() ? parameter_values{} : parameter_values{found->second, rounded};
  }
  [[nodiscard]] std::vector<float> const& at(std::string_view layer, char const* name) const {
    return tensors.at(std::string(layer) + '.' + name);
  }
};

/// Kernel, stride, padding, dilation and groups, read from the options.
struct geometry final {
  std::size_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, top = 0, left = 0, bottom = 0, right = 0, parts = 1;
  bool exclude = false;

  template <std::size_t A, std::size_t B>
  void read(kernel<A, B>) {
    kh = A, kw = B;
  }
  template <std::size_t A, std::size_t B>
  void read(stride<A, B>) {
    sh = A, sw = B;
  }
  template <std::size_t A, std::size_t B>
  void read(dilation<A, B>) {
    dh = A, dw = B;
  }
  template <std::size_t T, std::size_t L, std::size_t B, std::size_t R>
  void read(pad<T, L, B, R>) {
    top = T, left = L, bottom = B, right = R;
  }
  template <std::size_t G>
  void read(groups<G>) {
    parts = G;
  }
  void read(exclude_pad) { exclude = true; }

  [[nodiscard]] std::size_t height(std::size_t in) const { return (in + top + bottom - dh * (kh - 1) - 1) / sh + 1; }
  [[nodiscard]] std::size_t width(std::size_t in) const { return (in + left + right - dw * (kw - 1) - 1) / sw + 1; }

  /// Calls f(p, q, y, x) for every tap (p, q) of the window at (i, j) that lies on an element (y, x) of the input.
  template <class F>
  void window(std::size_t i, std::size_t j, std::size_t h, std::size_t w, F&& f) const {
    for (std::size_t p = 0; p < kh; ++p) {
      for (std::size_t q = 0; q < kw; ++q) {
        long const y = static_cast<long>(i * sh + p * dh) - static_cast<long>(top);
        long const x = static_cast<long>(j * sw + q * dw) - static_cast<long>(left);
        if (y < 0 || x < 0 || y >= static_cast<long>(h) || x >= static_cast<long>(w)) continue;
        f(p, q, static_cast<std::size_t>(y), static_cast<std::size_t>(x));
      }
    }
  }
};

template <class... Options>
[[nodiscard]] geometry read_options() {
  geometry g;
  (g.read(Options{}), ...);
  return g;
}

// One overload of `apply` for each operator: apply(operator, parameters, operands...).

template <class T, fixed_string Layer, std::size_t Out>
tensor<T> apply(linear_t<Layer, Out>, parameter_map const& p, tensor<T> const& x) {
  auto const& weight = p.at(Layer.view(), "weight");
  auto const& bias = p.at(Layer.view(), "bias");
  tensor<T> y{{Out}, std::vector<T>(Out)};
  for (std::size_t o = 0; o < Out; ++o) {
    y.data[o] = bias[o];
    for (std::size_t i = 0; i < x.data.size(); ++i) y.data[o] += T(weight[o * x.data.size() + i]) * x.data[i];
  }
  return y;
}

template <class T, fixed_string Layer, std::size_t Out, class... Options>
tensor<T> apply(conv_t<Layer, Out, Options...>, parameter_map const& p, tensor<T> const& x) {
  geometry const g = read_options<Options...>();
  auto const& weight = p.at(Layer.view(), "weight");
  std::size_t const ins = x.dims[0] / g.parts, outs = Out / g.parts, h = x.dims[1], w = x.dims[2];
  tensor<T> y{{Out, g.height(h), g.width(w)}, {}};
  for (std::size_t o = 0; o < Out; ++o) {
    for (std::size_t i = 0; i < y.dims[1]; ++i) {
      for (std::size_t j = 0; j < y.dims[2]; ++j) {
        T sum = p.at(Layer.view(), "bias")[o];
        for (std::size_t c = 0; c < ins; ++c) {
          g.window(i, j, h, w, [&](std::size_t a, std::size_t b, std::size_t row, std::size_t column) {
            T const tap = weight[((o * ins + c) * g.kh + a) * g.kw + b];
            sum += tap * x.data[((o / outs * ins + c) * h + row) * w + column];
          });
        }
        y.data.push_back(sum);
      }
    }
  }
  return y;
}

/// Applies reduce(values of the window, taps) at every place of a window.
template <class T, class Reduce>
tensor<T> slide(geometry const& g, tensor<T> const& x, Reduce&& reduce) {
  tensor<T> y{{x.dims[0], g.height(x.dims[1]), g.width(x.dims[2])}, {}};
  std::vector<T> seen;
  for (std::size_t c = 0; c < y.dims[0]; ++c) {
    for (std::size_t i = 0; i < y.dims[1]; ++i) {
      for (std::size_t j = 0; j < y.dims[2]; ++j) {
        seen.clear();
        g.window(i, j, x.dims[1], x.dims[2], [&](std::size_t, std::size_t, std::size_t row, std::size_t column) {
          seen.push_back(x.data[(c * x.dims[1] + row) * x.dims[2] + column]);
        });
        y.data.push_back(reduce(seen));
      }
    }
  }
  return y;
}

template <class T>
T sum_of(std::vector<T> const& values) {
  T sum = 0;
  for (T const one : values) sum += one;
  return sum;
}

template <class T, class... Options>
tensor<T> apply(average_pool_t<Options...>, parameter_map const&, tensor<T> const& x) {
  geometry const g = read_options<Options...>();
  return slide(g, x, [&](auto const& seen) { return sum_of(seen) / T(g.exclude ? seen.size() : g.kh * g.kw); });
}

template <class T, class... Options>
tensor<T> apply(max_pool_t<Options...>, parameter_map const&, tensor<T> const& x) {
  return slide(read_options<Options...>(), x,
               [](auto const& seen) { return *std::max_element(seen.begin(), seen.end()); });
}

template <class T>
tensor<T> apply(global_average_pool_t, parameter_map const&, tensor<T> const& x) {
  tensor<T> y{sizes(x.dims.size(), 1), {}};
  y.dims[0] = x.dims[0];
  std::size_t const each = x.data.size() / x.dims[0];
  for (std::size_t c = 0; c < x.dims[0]; ++c) {
    auto const first = x.data.begin() + static_cast<std::ptrdiff_t>(c * each);
    y.data.push_back(sum_of(std::vector<T>(first, first + static_cast<std::ptrdiff_t>(each))) / T(each));
  }
  return y;
}

/// Applies f(value, element, channel) to every element.
template <class T, class F>
tensor<T> map(tensor<T> x, F&& f) {
  std::size_t const each = x.data.size() / x.dims[0];
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = f(x.data[i], i, i / each);
  return x;
}

template <class T>
tensor<T> apply(relu_t, parameter_map const&, tensor<T> const& x) {
  return map(x, [](T v, std::size_t, std::size_t) { return std::max(v, T(0)); });
}
template <class T>
tensor<T> apply(sigmoid_t, parameter_map const&, tensor<T> const& x) {
  return map(x, [](T v, std::size_t, std::size_t) { return 1 / (1 + std::exp(-v)); });
}
template <class T>
tensor<T> apply(tanh_t, parameter_map const&, tensor<T> const& x) {
  return map(x, [](T v, std::size_t, std::size_t) { return std::tanh(v); });
}
template <class T>
tensor<T> apply(neg_t, parameter_map const&, tensor<T> const& x) {
  return map(x, [](T v, std::size_t, std::size_t) { return -v; });
}
template <class T>
tensor<T> apply(identity_t, parameter_map const&, tensor<T> const& x) {
  return x;
}
template <class T>
tensor<T> apply(dropout_t, parameter_map const&, tensor<T> const& x) {
  return x;
}
template <class T, fixed_string L>
tensor<T> apply(leaky_relu_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t, std::size_t) { return v < 0 ? T(p.at(L.view(), "alpha")[0]) * v : v; });
}
template <class T, fixed_string L>
tensor<T> apply(add_constant_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t i, std::size_t) { return v + T(p.at(L.view(), "constant")[i]); });
}
template <class T, fixed_string L>
tensor<T> apply(sub_constant_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t i, std::size_t) { return v - T(p.at(L.view(), "constant")[i]); });
}
template <class T, fixed_string L>
tensor<T> apply(mul_constant_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t i, std::size_t) { return v * T(p.at(L.view(), "constant")[i]); });
}
template <class T, fixed_string L>
tensor<T> apply(div_constant_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t i, std::size_t) { return v / T(p.at(L.view(), "constant")[i]); });
}
template <class T, fixed_string L>
tensor<T> apply(batch_normalization_t<L>, parameter_map const& p, tensor<T> const& x) {
  return map(x, [&](T v, std::size_t, std::size_t c) {
    T const deviation = std::sqrt(T(p.at(L.view(), "variance")[c]) + T(p.at(L.view(), "epsilon")[0]));
    return (v - T(p.at(L.view(), "mean")[c])) / deviation * T(p.at(L.view(), "scale")[c]) +
           T(p.at(L.view(), "bias")[c]);
  });
}

template <class T>
tensor<T> apply(flatten_t, parameter_map const&, tensor<T> const& x) {
  return {{x.data.size()}, x.data};
}
template <class T, std::size_t... Dims>
tensor<T> apply(reshape_t<Dims...>, parameter_map const&, tensor<T> const& x) {
  return {{Dims...}, x.data};
}
template <class T, std::size_t... Axes>
tensor<T> apply(squeeze_t<Axes...>, parameter_map const&, tensor<T> const& x) {
  tensor<T> y{{}, x.data};
  for (std::size_t axis = 0; axis < x.dims.size(); ++axis) {
    if (((axis != Axes) && ...)) y.dims.push_back(x.dims[axis]);
  }
  return y;
}
template <class T, std::size_t... Axes>
tensor<T> apply(unsqueeze_t<Axes...>, parameter_map const&, tensor<T> const& x) {
  sizes axes{Axes...};
  std::sort(axes.begin(), axes.end());
  tensor<T> y = x;
  for (auto const axis : axes) y.dims.insert(y.dims.begin() + static_cast<std::ptrdiff_t>(axis), 1);
  return y;
}

template <class T, std::size_t... Perm>
tensor<T> apply(transpose_t<Perm...>, parameter_map const&, tensor<T> const& x) {
  sizes const perm{Perm...};
  tensor<T> y{{x.dims[Perm]...}, {}};
  for_each_index(y.dims, [&](sizes const& out) {
    sizes in(perm.size());
    for (std::size_t axis = 0; axis < perm.size(); ++axis) in[perm[axis]] = out[axis];
    y.data.push_back(x.data[place(x.dims, in)]);
  });
  return y;
}

template <class T, std::size_t Axis, std::size_t Start, std::size_t End, std::size_t Step>
tensor<T> apply(slice_t<Axis, Start, End, Step>, parameter_map const&, tensor<T> const& x) {
  tensor<T> y{x.dims, {}};
  y.dims[Axis] = 0;
  for (std::size_t at = Start; at < End; at += Step) ++y.dims[Axis];
  for_each_index(y.dims, [&](sizes const& out) {
    sizes in = out;
    in[Axis] = Start + out[Axis] * Step;
    y.data.push_back(x.data[place(x.dims, in)]);
  });
  return y;
}

template <class T, std::size_t Down, std::size_t Across>
tensor<T> apply(upsample_t<Down, Across>, parameter_map const&, tensor<T> const& x) {
  tensor<T> y{{x.dims[0], x.dims[1] * Down, x.dims[2] * Across}, {}};
  for_each_index(y.dims, [&](sizes const& out) {
    y.data.push_back(x.data[place(x.dims, {out[0], out[1] / Down, out[2] / Across})]);
  });
  return y;
}

template <class T, std::size_t Down, std::size_t Across>
tensor<T> apply(spread_t<Down, Across>, parameter_map const&, tensor<T> const& x) {
  tensor<T> y{{x.dims[0], (x.dims[1] - 1) * Down + 1, (x.dims[2] - 1) * Across + 1}, {}};
  y.data.resize(count(y.dims));
  for_each_index(x.dims, [&](sizes const& in) {
    y.data[place(y.dims, {in[0], in[1] * Down, in[2] * Across})] = x.data[place(x.dims, in)];
  });
  return y;
}

template <class T, std::size_t Axis, class... Operands>
tensor<T> apply(concat_t<Axis>, parameter_map const&, tensor<T> const& first, Operands const&... rest) {
  tensor<T> y{first.dims, {}};
  ((y.dims[Axis] += rest.dims[Axis]), ...);
  y.data.resize(count(y.dims));
  std::size_t begin = 0;
  for (tensor<T> const* one : {&first, &rest...}) {
    for_each_index(one->dims, [&](sizes const& in) {
      sizes out = in;
      out[Axis] += begin;
      y.data[place(y.dims, out)] = one->data[place(one->dims, in)];
    });
    begin += one->dims[Axis];
  }
  return y;
}

template <class T, int Sign>
tensor<T> apply(sum_t<Sign>, parameter_map const&, tensor<T> const& a, tensor<T> const& b) {
  return map(a, [&](T v, std::size_t i, std::size_t) { return v + Sign * b.data[i]; });
}

/// Values of all nodes of a network at one input.
template <Network Net, class T>
[[nodiscard]] std::vector<tensor<T>> evaluate(parameter_map const& p, std::vector<T> const& x) {
  using g = graph<Net>;
  std::vector<tensor<T>> values;
  g::for_each([&]<std::size_t I> {
    if constexpr (I == 0) {
      constexpr extents shape = g::template shape<0>;
      values.push_back({{shape.dims, shape.dims + shape.rank}, x});
    } else {
      values.push_back([&]<std::size_t... In>(std::index_sequence<In...>) {
        return apply(typename g::template op<I>{}, p, values[g::template inputs<I>[In]]...);
      }(std::make_index_sequence<g::template input_count<I>>{}));
    }
  });
  return values;
}

}  // namespace hull::reference
