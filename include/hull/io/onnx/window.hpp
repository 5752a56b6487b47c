// SPDX-License-Identifier: Apache-2.0
// Convolution and pooling. One spatial axis is handled as an image of height 1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>

namespace hull::io::onnx_reader {

/// A window over images of `channels` x height x width.
struct window {
  std::vector<std::int64_t> kernel, stride, pad, dilation;  // height, width; pad: top, left, bottom, right
  std::size_t source = 0;                                   // node of the images
  shape image;                                              // [channels, height, width]
  bool flat = false;                                        // the tensor has one spatial axis
  std::size_t height = 0, width = 0;                        // of the result
  bool merged_zeros = false;                                // pad contains a former Pad node

  [[nodiscard]] bool padded() const {
    return std::any_of(pad.begin(), pad.end(), [](auto p) { return p > 0; });
  }
  /// Every window holds an element of the image. Dilation can step over a small one.
  [[nodiscard]] bool touches_image() const {
    for (std::size_t a = 0; a < 2; ++a) {
      auto const extent = static_cast<std::int64_t>(image[a + 1]);
      for (std::int64_t i = 0, at = -pad[a]; i < static_cast<std::int64_t>(a == 0 ? height : width); ++i) {
        std::int64_t const skipped = at < 0 ? (dilation[a] - 1 - at) / dilation[a] : 0;  // elements before the image
        if (skipped >= kernel[a] || at + skipped * dilation[a] >= extent) return false;
        at += stride[a];
      }
    }
    return true;
  }
};

/// Refuses what is not one image.
inline void require_image(context const& c, shape const& dims) {
  c.require(has_batch(dims) && (dims.size() == 3 || dims.size() == 4),
            "needs one image with channels and one or two spatial axes, not shape " + spell(dims));
}

/// `x` as a node of shape [channels, height, width].
[[nodiscard]] inline std::size_t as_image(context& c, value const& x) {
  require_image(c, x.dims);
  shape image = without_batch(x.dims);
  if (x.dims.size() == 3) image.insert(image.begin() + 1, 1);
  return c.network().reshape(x.node, image, c.where());
}

/// The attribute `name` for two spatial axes; `usual` where the file says nothing.
[[nodiscard]] inline std::vector<std::int64_t> spatial(context const& c, std::string const& name, bool flat,
                                                       std::int64_t usual) {
  std::size_t const axes = flat ? 1 : 2;
  auto numbers = c.attributes().integers(name).value_or(std::vector<std::int64_t>(axes, usual));
  c.require(numbers.size() == axes, "needs " + std::to_string(axes) + " numbers as " + name);
  for (auto const x : numbers) c.require(x >= 1 && x <= 1 << 20, "has a bad " + name);
  if (flat) numbers.insert(numbers.begin(), 1);
  return numbers;
}

/// Reads the window's attributes and computes the size of the result. `kernel` as height, width.
[[nodiscard]] inline window read_window(context& c, std::vector<std::int64_t> kernel) {
  value const& x = c.variable(0);
  window w;
  require_image(c, x.dims);
  w.flat = x.dims.size() == 3;
  w.kernel = std::move(kernel);
  w.stride = spatial(c, "strides", w.flat, 1);
  w.dilation = spatial(c, "dilations", w.flat, 1);
  w.pad.assign(4, 0);
  shape image = without_batch(x.dims);
  if (w.flat) image.insert(image.begin() + 1, 1);
  w.image = image;

  std::string const automatic = c.attributes().text("auto_pad", "NOTSET");
  if (automatic == "NOTSET" || automatic.empty()) {
    auto pads = c.attributes().integers("pads").value_or(std::vector<std::int64_t>(w.flat ? 2 : 4, 0));
    c.require(pads.size() == (w.flat ? 2u : 4u), "needs two amounts for each spatial axis as pads");
    for (auto const p : pads) c.require(p >= 0 && p <= 1 << 20, "has bad pads");
    w.pad = w.flat ? std::vector<std::int64_t>{0, pads[0], 0, pads[1]} : pads;
  } else if (automatic != "VALID") {
    c.require(automatic == "SAME_UPPER" || automatic == "SAME_LOWER", "has an unknown auto_pad");
    for (std::size_t a = 0; a < 2; ++a) {
      auto const extent = static_cast<std::int64_t>(image[a + 1]);
      auto const span = (w.kernel[a] - 1) * w.dilation[a] + 1;
      auto const steps = (extent - 1) / w.stride[a];
      auto const total = std::max<std::int64_t>(0, steps * w.stride[a] + span - extent);
      auto const smaller = total / 2, larger = total - smaller;
      w.pad[a] = automatic == "SAME_UPPER" ? smaller : larger;
      w.pad[a + 2] = total - w.pad[a];
    }
  }

  w.source = x.node;
  bool const ceil = c.attributes().integer("ceil_mode", 0) != 0;
  std::size_t result[2];
  for (std::size_t a = 0; a < 2; ++a) {
    auto const extent = static_cast<std::int64_t>(image[a + 1]);
    auto const span = (w.kernel[a] - 1) * w.dilation[a] + 1;
    auto const room = extent + w.pad[a] + w.pad[a + 2] - span;
    c.require(room >= 0, "has a kernel larger than its input " + spell(x.dims));
    auto steps = room / w.stride[a];
    if (ceil && room % w.stride[a] != 0 && (steps + 1) * w.stride[a] < extent + w.pad[a]) {
      // A window that starts inside but ends outside counts too: the same as more padding at the end.
      c.require(c.op() == "MaxPool" || c.attributes().integer("count_include_pad", 0) == 0,
                "with ceil_mode and count_include_pad is not supported");
      ++steps;
      w.pad[a + 2] += steps * w.stride[a] - room;
    }
    result[a] = static_cast<std::size_t>(steps) + 1;
  }
  w.height = result[0];
  w.width = result[1];

  node const& before = c.network().at(x.node);
  if (before.op == "Pad") {
    w.merged_zeros = true;
    w.source = before.inputs[0];
    auto const& zeros = before.attributes.at("pad");
    for (std::size_t i = 0; i < 4; ++i) w.pad[i] += zeros[i];
    w.image[1] -= static_cast<std::size_t>(zeros[0] + zeros[2]);
    w.image[2] -= static_cast<std::size_t>(zeros[1] + zeros[3]);
  }
  w.source = c.network().reshape(w.source, w.image, c.where());
  return w;
}

[[nodiscard]] inline attribute_map attributes_of(window const& w) {
  return {{"kernel", w.kernel}, {"stride", w.stride}, {"pad", w.pad}};
}

/// Defines the result of a node with shape [channels, height, width].
inline void define_image(context& c, window const& w, std::size_t channels, std::size_t node) {
  shape dims{1, channels, w.height, w.width};
  if (w.flat) dims.erase(dims.begin() + 2);
  c.define(0, dims, node);
}

/// Height and width of the filters in weights [_, _, spatial axes] of a convolution of `dims`.
[[nodiscard]] inline std::vector<std::int64_t> kernel_of(context const& c, shape const& dims, shape const& weights) {
  bool const flat = dims.size() == 3;
  c.require(weights.size() == dims.size() && (flat || dims.size() == 4),
            "of an input " + spell(dims) + " with weights " + spell(weights) + " is not supported");
  std::vector<std::int64_t> kernel;
  for (std::size_t a = 2; a < weights.size(); ++a) kernel.push_back(static_cast<std::int64_t>(weights[a]));
  auto const stated = c.attributes().integers("kernel_shape");
  c.require(!stated || *stated == kernel, "has a kernel_shape that differs from its weights " + spell(weights));
  if (flat) kernel.insert(kernel.begin(), 1);
  for (auto const k : kernel) c.require(k >= 1 && k <= 1 << 20, "has a bad kernel");
  return kernel;
}

inline void translate_conv(context& c) {
  shape const kernel_dims = c.known(1).dims;
  auto const kernel = kernel_of(c, c.variable(0).dims, kernel_dims);
  window const w = read_window(c, kernel);

  auto const groups = c.attributes().integer("group", 1);
  std::size_t const channels = kernel_dims[0];
  c.require(groups >= 1 && groups <= 1 << 20 && channels > 0 && channels % static_cast<std::size_t>(groups) == 0 &&
                kernel_dims[1] * static_cast<std::size_t>(groups) == w.image[0],
            "of " + std::to_string(w.image[0]) + " channels in " + std::to_string(groups) + " groups with weights " +
                spell(kernel_dims));
  std::map<std::string, tensor> parameters;
  shape const weight_shape{channels, kernel_dims[1], static_cast<std::size_t>(kernel[0]),
                           static_cast<std::size_t>(kernel[1])};
  parameters["weight"] = as_parameter(c.take(1), weight_shape, c.where());
  if (c.has(2)) {
    c.require(c.known(2).dims == shape{channels}, "needs one bias for each channel");
    parameters["bias"] = as_parameter(c.take(2), {channels}, c.where());
  }
  auto attributes = attributes_of(w);
  attributes["channels"] = {static_cast<std::int64_t>(channels)};
  attributes["dilation"] = w.dilation;
  attributes["groups"] = {groups};
  auto const node = c.network().add("Conv", w.source, {channels, w.height, w.width}, std::move(attributes),
                                    std::move(parameters), c.where());
  define_image(c, w, channels, node);
}

inline void translate_max_pool(context& c) {
  c.only_first_outputs(1);
  require_image(c, c.variable(0).dims);
  bool const flat = c.variable(0).dims.size() == 3;
  window const w = read_window(c, spatial(c, "kernel_shape", flat, 1));
  if (w.merged_zeros) {
    c.require(c.network().non_negative(w.source), "of a zero-padded input that may be negative is not supported");
  }
  c.require(w.touches_image(), "has windows with nothing but padding");
  auto attributes = attributes_of(w);
  attributes["dilation"] = w.dilation;
  auto const node =
      c.network().add("MaxPool", {w.source}, {w.image[0], w.height, w.width}, std::move(attributes), c.where());
  define_image(c, w, w.image[0], node);
}

inline void translate_average_pool(context& c) {
  require_image(c, c.variable(0).dims);
  bool const flat = c.variable(0).dims.size() == 3;
  window const w = read_window(c, spatial(c, "kernel_shape", flat, 1));
  c.require(w.dilation == std::vector<std::int64_t>({1, 1}), "with dilations is not supported");
  bool const include = c.attributes().integer("count_include_pad", 0) != 0;
  auto attributes = attributes_of(w);
  if (w.merged_zeros) {
    // The zeros of the Pad count; the pool's own padding must then count too, or not exist.
    std::vector<std::int64_t> const none(4, 0);
    c.require(include || w.pad == c.network().at(c.variable(0).node).attributes.at("pad"),
              "with padding of its own after a Pad is not supported");
  } else if (w.padded() && !include) {
    c.require(w.touches_image(), "has windows with nothing but padding");
    attributes["exclude_pad"] = {1};
  }
  auto const node =
      c.network().add("AveragePool", {w.source}, {w.image[0], w.height, w.width}, std::move(attributes), c.where());
  define_image(c, w, w.image[0], node);
}

/// The mean of each channel of `x`, as a node of shape [channels, 1, 1].
[[nodiscard]] inline std::size_t channel_means(context& c, value const& x) {
  auto const source = as_image(c, x);
  return c.network().add("GlobalAveragePool", {source}, {c.network().at(source).shape[0], 1, 1}, {}, c.where());
}

inline void translate_global_average_pool(context& c) {
  value const x = c.variable(0);
  auto const node = channel_means(c, x);
  shape dims(x.dims.size(), 1);
  dims[1] = x.dims[1];
  c.define(0, dims, node);
}

/// ReduceMean over all spatial axes is a GlobalAveragePool.
inline void translate_reduce_mean(context& c) {
  value const x = c.variable(0);
  auto axes = c.integers(1, "axes").value_or(std::vector<std::int64_t>{});
  for (auto& a : axes) a = static_cast<std::int64_t>(axis_index(a, x.dims.size(), c.where()));
  std::sort(axes.begin(), axes.end());
  bool const spatial_axes = axes == std::vector<std::int64_t>{2, 3} && x.dims.size() == 4;
  c.require(spatial_axes, "over other axes than height and width is not supported");
  auto const node = channel_means(c, x);
  bool const keep = c.attributes().integer("keepdims", 1) != 0;
  c.define(0, keep ? shape{1, x.dims[1], 1, 1} : shape{1, x.dims[1]}, node);
}

}  // namespace hull::io::onnx_reader
