// SPDX-License-Identifier: Apache-2.0
// Images that become larger when they are read: against the definition of each operator, term by term.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "onnx_graph.hpp"
#include "support/random.hpp"

using namespace test;
using reals = std::vector<double>;

namespace {

/// Two spatial axes: height, width.
struct transposed final {
  std::int64_t in, out, groups;
  integers image, kernel, stride, dilation, pads, more;  // pads: top, left, bottom, right
};

floats numbers(hull::reference::random_engine& random, std::size_t count) {
  floats values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>(hull::reference::uniform(random, -1, 1)));
  }
  return values;
}

/// Every element of the input sends its products to where its window lies.
reals scattered(transposed const& t, reals const& x, floats const& weight, floats const& bias) {
  auto const extent = [&](std::size_t a) {
    return t.stride[a] * (t.image[a] - 1) + t.more[a] + (t.kernel[a] - 1) * t.dilation[a] + 1 - t.pads[a] -
           t.pads[a + 2];
  };
  std::int64_t const height = extent(0), width = extent(1), ins = t.in / t.groups, outs = t.out / t.groups;
  reals y;
  for (float const b : bias) y.insert(y.end(), static_cast<std::size_t>(height * width), b);
  for (std::int64_t c = 0; c < t.in; ++c) {
    for (std::int64_t i = 0; i < t.image[0]; ++i) {
      for (std::int64_t j = 0; j < t.image[1]; ++j) {
        for (std::int64_t o = 0; o < outs; ++o) {
          for (std::int64_t p = 0; p < t.kernel[0]; ++p) {
            for (std::int64_t q = 0; q < t.kernel[1]; ++q) {
              std::int64_t const line = i * t.stride[0] + p * t.dilation[0] - t.pads[0];
              std::int64_t const column = j * t.stride[1] + q * t.dilation[1] - t.pads[1];
              if (line < 0 || line >= height || column < 0 || column >= width) continue;
              std::int64_t const channel = c / ins * outs + o;
              y[static_cast<std::size_t>((channel * height + line) * width + column)] +=
                  x[static_cast<std::size_t>((c * t.image[0] + i) * t.image[1] + j)] *
                  static_cast<double>(
                      weight[static_cast<std::size_t>(((c * outs + o) * t.kernel[0] + p) * t.kernel[1] + q)]);
            }
          }
        }
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("onnx: ConvTranspose is what its definition says") {
  hull::reference::random_engine random(1);
  transposed const all[] = {
      {2, 3, 1, {3, 4}, {4, 4}, {2, 2}, {1, 1}, {0, 0, 0, 0}, {0, 0}},
      {2, 3, 1, {3, 4}, {4, 3}, {2, 3}, {1, 1}, {1, 0, 2, 1}, {1, 2}},
      {4, 6, 2, {2, 3}, {3, 2}, {1, 2}, {2, 3}, {0, 1, 1, 2}, {0, 1}},
      {3, 3, 3, {1, 5}, {1, 3}, {3, 1}, {1, 1}, {0, 2, 0, 2}, {2, 0}},
      {1, 1, 1, {2, 2}, {2, 2}, {5, 4}, {1, 1}, {0, 0, 0, 0}, {0, 0}},
      {5, 2, 1, {4, 4}, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, {0, 0}},
  };
  for (auto const& t : all) {
    CAPTURE(t.kernel[0]);
    CAPTURE(t.stride[1]);
    onnx_graph g({1, t.in, t.image[0], t.image[1]});
    auto const weight = numbers(random, static_cast<std::size_t>(t.in * t.out / t.groups * t.kernel[0] * t.kernel[1]));
    auto const bias = numbers(random, static_cast<std::size_t>(t.out));
    g.constant("w", {t.in, t.out / t.groups, t.kernel[0], t.kernel[1]}, weight);
    g.constant("b", {t.out}, bias);
    auto& node = g.node("ConvTranspose", {"x", "w", "b"});
    set(node, "strides", t.stride);
    set(node, "dilations", t.dilation);
    set(node, "pads", t.pads);
    set(node, "output_padding", t.more);
    set(node, "group", t.groups);
    set(node, "kernel_shape", t.kernel);
    reals x;
    for (float const v : numbers(random, static_cast<std::size_t>(t.in * t.image[0] * t.image[1]))) x.push_back(v);
    auto const found = g.run(x), wanted = scattered(t, x, weight, bias);
    REQUIRE(found.size() == wanted.size());
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::fabs(found[i] - wanted[i]));
    CHECK(worst < 1e-12);
  }
}

TEST_CASE("onnx: ConvTranspose on one axis, without bias, and as a plain Conv") {
  onnx_graph g({1, 1, 3});
  g.constant("w", {1, 1, 2}, {1, 10});
  set(g.node("ConvTranspose", {"x", "w"}), "strides", integers{2});
  CHECK(operators(g.read()) == names{"Input", "Unsqueeze", "Spread", "Conv", "Squeeze"});
  CHECK(g.run({1, 2, 3}) == reals{1, 10, 2, 20, 3, 30});

  onnx_graph plain({1, 1, 1, 3});
  plain.constant("w", {1, 1, 1, 2}, {1, 10});
  plain.node("ConvTranspose", {"x", "w"});
  CHECK(operators(plain.read()) == names{"Input", "Conv"});
  CHECK(plain.run({1, 2, 3}) == reals{1, 12, 23, 30});
}

TEST_CASE("onnx: a ConvTranspose that is not covered") {
  auto const refusal = [](auto&& change) {
    onnx_graph g({1, 2, 3, 3});
    g.constant("w", {2, 1, 2, 2}, floats(8, 1));
    change(g.node("ConvTranspose", {"x", "w"}));
    return g.refusal();
  };
  CHECK(refusal([](auto&) {}) == "accepted");
  CHECK(contains(refusal([](auto& n) { set(n, "auto_pad", "SAME_UPPER"); }), "with auto_pad or output_shape"));
  CHECK(contains(refusal([](auto& n) { set(n, "output_shape", integers{6, 6}); }), "with auto_pad or output_shape"));
  CHECK(contains(refusal([](auto& n) { set(n, "pads", integers{2, 0, 0, 0}); }), "with pads beyond its kernel"));
  CHECK(contains(refusal([](auto& n) { set(n, "pads", integers{0, 0}); }), "needs two pads"));
  CHECK(contains(refusal([](auto& n) { set(n, "group", 3); }), "in 3 groups"));
  CHECK(contains(refusal([](auto& n) { set(n, "group", 0); }), "bad group"));
  CHECK(contains(refusal([](auto& n) { set(n, "strides", integers{0, 1}); }), "bad strides"));
  CHECK(contains(refusal([](auto& n) { set(n, "kernel_shape", integers{3, 2}); }), "kernel_shape that differs"));
  CHECK(contains(refusal([](auto& n) { set(n, "strides", integers{1 << 20, 1 << 20}); }), "test.onnx"));
}

TEST_CASE("onnx: Upsample and Resize repeat elements") {
  SUBCASE("Upsample, factors as input") {
    onnx_graph g({1, 1, 2, 2});
    g.constant("s", {4}, {1, 1, 2, 3});
    set(g.node("Upsample", {"x", "s"}), "mode", "nearest");
    CHECK(operators(g.read()) == names{"Input", "Upsample"});
    CHECK(g.run({1, 2, 3, 4}) == reals{1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4});
  }
  SUBCASE("by one: nothing happens") {
    onnx_graph g({1, 1, 2, 2});
    g.constant("s", {4}, {1, 1, 1, 1});
    g.node("Upsample", {"x", "s"}, {"u"});
    g.node("Relu", {"u"});
    CHECK(operators(g.read()) == names{"Input", "Relu"});
  }
  SUBCASE("Resize by factors, one axis") {
    onnx_graph g({1, 2, 2});
    g.constant("roi", {0}, {});
    g.constant("s", {3}, {1, 1, 2});
    auto& node = g.node("Resize", {"x", "roi", "s"});
    set(node, "coordinate_transformation_mode", "asymmetric");
    set(node, "nearest_mode", "floor");
    CHECK(g.run({1, 2, 3, 4}) == reals{1, 1, 2, 2, 3, 3, 4, 4});
  }
  SUBCASE("Resize to a size, half pixels") {
    onnx_graph g({1, 1, 1, 2});
    g.list("sizes", {1, 1, 2, 6});
    g.node("Resize", {"x", "", "", "sizes"});
    CHECK(g.run({1, 2}) == reals{1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2});
  }
  SUBCASE("refused") {
    auto const refusal = [](floats const& factors, char const* name, char const* value) {
      onnx_graph g({1, 1, 2, 2});
      g.constant("s", {4}, factors);
      auto& node = g.node("Resize", {"x", "", "s"});
      if (name != nullptr) set(node, name, value);
      return g.refusal();
    };
    CHECK(refusal({1, 1, 2, 2}, nullptr, "") == "accepted");
    CHECK(contains(refusal({1, 1, 1.5, 2}, nullptr, ""), "by other factors than whole ones"));
    CHECK(contains(refusal({1, 1, 0.5, 1}, nullptr, ""), "by other factors than whole ones"));
    CHECK(contains(refusal({1, 1, NAN, 1}, nullptr, ""), "by other factors than whole ones"));
    CHECK(contains(refusal({1, 2, 2, 2}, nullptr, ""), "of other axes than height and width"));
    CHECK(contains(refusal({1, 1, 2, 2}, "mode", "linear"), "to the nearest element only"));
    CHECK(contains(refusal({1, 1, 2, 2}, "nearest_mode", "ceil"), "half_pixel and ceil is not supported"));
    CHECK(contains(refusal({1, 1, 2, 2}, "coordinate_transformation_mode", "align_corners"), "align_corners and"));
    CHECK(contains(refusal({1, 1, 1 << 20, 1 << 20}, nullptr, ""), "test.onnx"));
  }
}
