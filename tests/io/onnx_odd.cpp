// SPDX-License-Identifier: Apache-2.0
// Odd but legal files, each of which was once read wrongly, refused without need or let through to the compiler.
#include <doctest/doctest.h>
#include <limits>
#include <string>
#include <vector>

#include <hull/io/onnx.hpp>

#include "onnx_graph.hpp"

using namespace test;
using reals = std::vector<double>;

TEST_CASE("onnx: a window that dilation takes past a small image is refused") {
  onnx_graph g({1, 1, 1, 1});
  auto& pool = g.node("MaxPool", {"x"});
  set(pool, "kernel_shape", integers{2, 2});
  set(pool, "dilations", integers{2, 2});
  set(pool, "pads", integers{1, 1, 1, 1});
  CHECK(contains(g.refusal(), "MaxPool has windows with nothing but padding"));
}

TEST_CASE("onnx: ceil_mode of a mean without its padding is more padding") {
  onnx_graph g({1, 1, 1, 4});
  auto& pool = g.node("AveragePool", {"x"});
  set(pool, "kernel_shape", integers{1, 3});
  set(pool, "strides", integers{1, 2});
  set(pool, "ceil_mode", 1);
  CHECK(g.run({1, 2, 3, 5}) == reals{2, 4});
  set(pool, "count_include_pad", 1);
  CHECK(contains(g.refusal(), "AveragePool with ceil_mode and count_include_pad"));
}

TEST_CASE("onnx: pools say which images they take") {
  for (auto const* op : {"MaxPool", "AveragePool"}) {
    onnx_graph g({1, 1, 2, 2, 2});
    set(g.node(op, {"x"}), "kernel_shape", integers{2, 2, 2});
    CHECK(
        contains(g.refusal(), "needs one image with channels and one or two spatial axes, not shape [1, 1, 2, 2, 2]"));
  }
}

TEST_CASE("onnx: a slice that runs backwards from before the axis takes its first element") {
  onnx_graph g({1, 3});
  g.list("start", {-100});
  g.list("end", {-200});
  g.list("axis", {1});
  g.list("step", {-1});
  g.node("Slice", {"x", "start", "end", "axis", "step"});
  CHECK(g.run({7, 8, 9}) == reals{7});
}

TEST_CASE("onnx: bounds of a Clip that no float exceeds are none") {
  float const most = std::numeric_limits<float>::max();
  onnx_graph relu({1, 2});
  set(relu.node("Clip", {"x"}), "min", 0.0f);
  set(*relu.proto.mutable_graph()->mutable_node(0), "max", most);
  CHECK(operators(relu.read()) == names{"Input", "Relu"});

  onnx_graph nothing({1, 2});
  nothing.node("Clip", {"x"}, {"c"});
  nothing.node("Neg", {"c"});
  CHECK(operators(nothing.read()) == names{"Input", "Neg"});

  onnx_graph six({1, 2});
  auto& clip = six.node("Clip", {"x"});
  set(clip, "min", 0.0f);
  set(clip, "max", 6.0f);
  CHECK(contains(six.refusal(), "Clip is supported from 0 to infinity only"));
}

TEST_CASE("onnx: reductions of constants") {
  onnx_graph same({1, 2});  // no axes can also mean: reduce nothing
  same.constant("k", {1, 2}, {3, 5});
  set(same.node("ReduceSum", {"k"}, {"s"}), "noop_with_empty_axes", 1);
  same.node("Add", {"x", "s"});
  CHECK(same.run({0, 0}) == reals{3, 5});

  onnx_graph rounds({1, 2});
  rounds.list("k", {1, 2});
  set(rounds.node("ReduceMean", {"k"}, {"m"}), "keepdims", 0);
  set(rounds.node("Cast", {"m"}, {"f"}), "to", 1);
  rounds.node("Add", {"x", "f"});
  CHECK(contains(rounds.refusal(), "ReduceMean of integers is not supported"));
}

TEST_CASE("onnx: the training mode of old files is seen") {
  onnx_graph g({1, 2});
  set(g.node("Dropout", {"x"}), "is_test", 0);
  CHECK(contains(g.refusal(), "Dropout in training mode is not supported"));

  onnx_graph norm({1, 1});
  for (auto const* name : {"scale", "bias", "mean", "var"}) norm.constant(name, {1}, {1});
  set(norm.node("BatchNormalization", {"x", "scale", "bias", "mean", "var"}), "is_test", 0);
  CHECK(contains(norm.refusal(), "BatchNormalization in training mode is not supported"));
}

TEST_CASE("onnx: what no type can say is refused before a compiler sees it") {
  onnx_graph deep({1, 1});
  for (int i = 0; i < 500; ++i) {
    std::string const from = i == 0 ? "x" : "t" + std::to_string(i), to = i == 499 ? "y" : "t" + std::to_string(i + 1);
    deep.node("Relu", {from}, {to});
  }
  CHECK(deep.refusal() == "test.onnx: has 501 operators, at most 400 are supported");

  onnx_graph wide({1, 256});
  wide.list("dims", {2, 2, 2, 2, 2, 2, 2, 2});
  wide.node("Reshape", {"x", "dims"});
  CHECK(contains(wide.refusal(), "Reshape_1\": a shape with more than 6 dimensions is not supported"));

  onnx_graph none({1, 2});
  none.constant("w", {2, 0}, {});
  none.node("MatMul", {"x", "w"});
  CHECK(contains(none.refusal(), "MatMul has an output without elements"));
}
