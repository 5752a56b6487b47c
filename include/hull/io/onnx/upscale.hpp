// SPDX-License-Identifier: Apache-2.0
// Images that become larger: ConvTranspose, Upsample, Resize.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>
#include <hull/io/onnx/window.hpp>

namespace hull::io::onnx_reader {

/// Weights [in, out / groups, kernel] of a transposed convolution as those of a convolution, [out, in / groups,
/// kernel]: channels change sides within their group, kernels are turned around.
[[nodiscard]] inline tensor transposed_filters(tensor const& from, std::size_t groups) {
  std::size_t const ins = from.shape[0] / groups, outs = from.shape[1], area = from.shape[2] * from.shape[3];
  tensor to{{outs * groups, ins, from.shape[2], from.shape[3]}, std::vector<float>(from.values.size()), from.rounded};
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t i = 0; i < ins; ++i) {
      for (std::size_t o = 0; o < outs; ++o) {
        for (std::size_t t = 0; t < area; ++t) {
          to.values[((g * outs + o) * ins + i) * area + area - 1 - t] =
              from.values[((g * ins + i) * outs + o) * area + t];
        }
      }
    }
  }
  return to;
}

/// A transposed convolution is a convolution of the image with zeros between its elements.
inline void translate_conv_transpose(context& c) {
  value const x = c.variable(0);
  shape const weights = c.known(1).dims;
  std::size_t image = as_image(c, x);
  bool const flat = x.dims.size() == 3;
  auto const kernel = kernel_of(c, x.dims, weights);
  auto const number = c.attributes().integer("group", 1);
  c.require(number >= 1 && number <= 1 << 20, "has a bad group");
  auto const groups = static_cast<std::size_t>(number);
  shape const from = c.network().at(image).shape;
  c.require(weights[0] == from[0] && weights[0] % groups == 0 && weights[1] > 0,
            "of " + std::to_string(from[0]) + " channels in " + std::to_string(groups) + " groups with weights " +
                spell(weights));
  std::size_t const channels = weights[1] * groups;

  std::string const automatic = c.attributes().text("auto_pad", "NOTSET");
  c.require(
      (automatic == "NOTSET" || automatic == "VALID" || automatic.empty()) && !c.attributes().integers("output_shape"),
      "with auto_pad or output_shape is not supported");
  auto const stride = spatial(c, "strides", flat, 1), dilation = spatial(c, "dilations", flat, 1);
  std::size_t const axes = flat ? 1 : 2;
  auto cut = c.attributes().integers("pads").value_or(std::vector<std::int64_t>(2 * axes, 0));
  auto more = c.attributes().integers("output_padding").value_or(std::vector<std::int64_t>(axes, 0));
  c.require(cut.size() == 2 * axes && more.size() == axes, "needs two pads and one output_padding for each axis");
  for (auto const p : cut) c.require(p >= 0 && p <= 1 << 20, "has bad pads");
  for (auto const p : more) c.require(p >= 0 && p <= 1 << 20, "has a bad output_padding");
  if (flat) {
    cut = {0, cut[0], 0, cut[1]};
    more.insert(more.begin(), 0);
  }

  shape wide = from;
  std::vector<std::int64_t> pad(4);
  shape result{channels, 0, 0};
  for (std::size_t a = 0; a < 2; ++a) {
    auto const reach = (kernel[a] - 1) * dilation[a];
    pad[a] = reach - cut[a];
    pad[a + 2] = reach - cut[a + 2] + more[a];
    c.require(pad[a] >= 0 && pad[a + 2] >= 0, "with pads beyond its kernel is not supported");
    wide[a + 1] = (from[a + 1] - 1) * static_cast<std::size_t>(stride[a]) + 1;
    auto const extent = static_cast<std::int64_t>(wide[a + 1]) + pad[a] + pad[a + 2] - reach;
    c.require(extent > 0, "has an output without elements");
    result[a + 1] = static_cast<std::size_t>(extent);
  }
  static_cast<void>(count(wide, c.where()));
  if (wide != from) image = c.network().add("Spread", {image}, wide, {{"by", stride}}, c.where());

  std::map<std::string, tensor> parameters;
  shape const four{weights[0], weights[1], static_cast<std::size_t>(kernel[0]), static_cast<std::size_t>(kernel[1])};
  parameters["weight"] = transposed_filters(as_parameter(c.take(1), four, c.where()), groups);
  if (c.has(2)) {
    c.require(c.known(2).dims == shape{channels}, "needs one bias for each channel");
    parameters["bias"] = as_parameter(c.take(2), {channels}, c.where());
  }
  attribute_map attributes{{"kernel", kernel},   {"stride", {1, 1}},
                           {"pad", pad},         {"dilation", dilation},
                           {"groups", {number}}, {"channels", {static_cast<std::int64_t>(channels)}}};
  auto const node = c.network().add("Conv", image, result, std::move(attributes), std::move(parameters), c.where());
  shape dims{1, channels, result[1], result[2]};
  if (flat) dims.erase(dims.begin() + 2);
  c.define(0, dims, node);
}

/// The image repeated by whole `factors` [axes of x].
inline void repeat_image(context& c, std::vector<double> const& factors) {
  value const x = c.variable(0);
  std::size_t const image = as_image(c, x);
  c.require(factors.size() == x.dims.size(), "needs one factor for each axis");
  std::vector<std::int64_t> by;
  shape dims = x.dims;
  for (std::size_t a = 0; a < factors.size(); ++a) {
    c.require(factors[a] >= 1 && factors[a] <= 1 << 20 && factors[a] == std::floor(factors[a]),
              "by other factors than whole ones is not supported");
    c.require(a >= 2 || factors[a] == 1, "of other axes than height and width is not supported");
    if (a >= 2) by.push_back(static_cast<std::int64_t>(factors[a]));
    dims[a] *= static_cast<std::size_t>(factors[a]);
  }
  static_cast<void>(count(dims, c.where()));
  if (dims == x.dims) return c.define(0, x.dims, x.node);
  if (by.size() == 1) by.insert(by.begin(), 1);
  shape target = c.network().at(image).shape;
  for (std::size_t a = 0; a < 2; ++a) target[a + 1] *= static_cast<std::size_t>(by[a]);
  c.define(0, dims, c.network().add("Upsample", {image}, target, {{"by", by}}, c.where()));
}

/// The numbers of constant input i, if there are any.
[[nodiscard]] inline std::vector<double> reals_of(context const& c, std::size_t i) {
  return c.has(i) ? as_reals(c.known(i)) : std::vector<double>{};
}

inline void translate_upsample(context& c) {
  c.require(c.attributes().text("mode", "nearest") == "nearest", "is supported to the nearest element only");
  auto factors = reals_of(c, 1);
  if (auto const told = c.attributes().reals("scales"); told && !c.has(1)) factors.assign(told->begin(), told->end());
  repeat_image(c, factors);
}

/// Resize to whole multiples. Of the ways to find the nearest element those are taken that repeat each equally often.
inline void translate_resize(context& c) {
  c.require(c.attributes().text("mode", "nearest") == "nearest", "is supported to the nearest element only");
  c.require(!c.attributes().integers("axes") && c.attributes().text("keep_aspect_ratio_policy", "stretch") == "stretch",
            "with axes or keep_aspect_ratio_policy is not supported");
  bool const old = c.input_count() == 2;  // opset 10: x and scales
  std::string const how = c.attributes().text("coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
  std::string const nearest = c.attributes().text("nearest_mode", old ? "floor" : "round_prefer_floor");
  c.require((how == "asymmetric" && nearest == "floor") ||
                ((how == "half_pixel" || how == "pytorch_half_pixel") &&
                 (nearest == "round_prefer_floor" || nearest == "round_prefer_ceil")),
            "with " + how + " and " + nearest + " is not supported");
  auto factors = reals_of(c, old ? 1 : 2);
  auto const sizes = old ? std::vector<double>{} : reals_of(c, 3);
  auto const& dims = c.variable(0).dims;
  if (factors.empty() && sizes.size() == dims.size()) {
    for (std::size_t a = 0; a < dims.size(); ++a) factors.push_back(sizes[a] / static_cast<double>(dims[a]));
  }
  repeat_image(c, factors);
}

}  // namespace hull::io::onnx_reader
