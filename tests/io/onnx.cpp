// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <hull/io/emit.hpp>
#include <hull/io/onnx.hpp>

#include "onnx_graph.hpp"

using namespace test;
using reals = std::vector<double>;

TEST_CASE("onnx: MatMul and Add become one Linear") {
  onnx_graph g({1, 2});
  g.constant("w", {2, 3}, {1, 2, 3, 4, 5, 6});
  g.constant("b", {3}, {10, 20, 30});
  g.node("MatMul", {"x", "w"}, {"p"});
  g.node("Add", {"b", "p"});
  auto const m = g.read();
  CHECK(operators(m) == names{"Input", "Linear"});
  CHECK(m.nodes[1].name == "fc1");
  CHECK(m.nodes[1].tensor == "y");
  CHECK(m.parameters.at("fc1.weight").values == floats{1, 4, 2, 5, 3, 6});
  CHECK(m.parameters.at("fc1.weight").shape == hull::io::shape{3, 2});
  CHECK(m.parameters.at("fc1.bias").values == floats{10, 20, 30});
  CHECK_FALSE(m.parameters.at("fc1.weight").rounded);
  CHECK(g.run({1, 1}) == reals{15, 27, 39});
}

TEST_CASE("onnx: a product with two readers keeps its own bias") {
  onnx_graph g({1, 2});
  g.constant("w", {2, 2}, {1, 2, 3, 4});
  g.constant("b", {2}, {10, 20});
  g.node("MatMul", {"x", "w"}, {"p"});
  g.node("Add", {"p", "b"}, {"q"});
  g.node("Add", {"p", "q"});
  CHECK(operators(g.read()) == names{"Input", "Linear", "Add", "Add"});
  CHECK(g.run({1, 1}) == reals{18, 32});
}

TEST_CASE("onnx: MatMul of vectors, columns and tensors with leading ones") {
  onnx_graph left({3});
  left.constant("w", {2, 3}, {1, 2, 3, 4, 5, 6});
  left.node("MatMul", {"w", "x"});
  CHECK(left.run({1, 0, 1}) == reals{4, 10});

  onnx_graph column({3, 1});
  column.constant("w", {2, 3}, {1, 2, 3, 4, 5, 6});
  column.node("MatMul", {"w", "x"});
  CHECK(column.read().nodes.back().shape == hull::io::shape{2, 1});
  CHECK(column.run({1, 0, 1}) == reals{4, 10});

  onnx_graph ones({1, 1, 2});
  ones.constant("w", {2, 2}, {1, 2, 3, 4});
  ones.constant("b", {2}, {1, 1});
  ones.node("MatMul", {"x", "w"}, {"p"});
  ones.node("Add", {"p", "b"});
  CHECK(operators(ones.read()) == names{"Input", "Flatten", "Linear", "Unsqueeze"});
  CHECK(ones.run({1, 1}) == reals{5, 7});

  onnx_graph rows({1, 3, 2});
  rows.constant("w", {2, 2}, {1, 2, 3, 4});
  rows.node("MatMul", {"x", "w"});
  CHECK(contains(rows.refusal(), "test.onnx: node \"MatMul_1\": MatMul on several rows"));
}

TEST_CASE("onnx: Gemm scales, and marks what it rounds") {
  onnx_graph g({1, 2});
  g.constant("w", {1, 2}, {1, 3});
  g.constant("c", {1}, {3});
  auto& gemm = g.node("Gemm", {"x", "w", "c"});
  set(gemm, "transB", 1);
  SUBCASE("exactly") {
    set(gemm, "alpha", 0.5f);
    set(gemm, "beta", 2.0f);
    CHECK(g.run({1, 1}) == reals{8});
    CHECK_FALSE(g.read().parameters.at("fc1.weight").rounded);
  }
  SUBCASE("with rounding") {
    set(gemm, "alpha", 0.1f);
    CHECK(g.read().parameters.at("fc1.weight").rounded);
    CHECK_FALSE(g.read().parameters.at("fc1.bias").rounded);
  }
}

TEST_CASE("onnx: the batch dimension") {
  auto const input_shape = [](integers const& dims) {
    onnx_graph g(dims);
    g.node("Relu", {"x"});
    return g.read().nodes[0].shape;
  };
  CHECK(input_shape({1, 1, 1, 5}) == hull::io::shape{1, 1, 5});
  CHECK(input_shape({-7, 3, 2}) == hull::io::shape{3, 2});
  CHECK(input_shape({0, 4}) == hull::io::shape{4});
  CHECK(input_shape({-1, 4}) == hull::io::shape{4});
  CHECK(input_shape({5}) == hull::io::shape{5});
  CHECK(input_shape({1}) == hull::io::shape{1});
  CHECK(input_shape({12, 8}) == hull::io::shape{12, 8});
  onnx_graph g({1, -7});
  g.node("Relu", {"x"});
  CHECK(contains(g.refusal(), "dimension 1 is not fixed"));
}

TEST_CASE("onnx: operators without effect leave no node") {
  onnx_graph g({1, 4});
  g.list("s", {0, -1});
  g.node("Identity", {"x"}, {"a"});
  g.node("Dropout", {"a"}, {"b", "mask"});
  g.node("Reshape", {"b", "s"}, {"c"});
  g.node("Flatten", {"c"}, {"d"});
  set(g.node("Cast", {"d"}, {"e"}), "to", 1);
  g.list("axes", {0});
  g.node("Unsqueeze", {"e", "axes"}, {"f"});
  g.node("Relu", {"f"});
  CHECK(operators(g.read()) == names{"Input", "Relu", "Unsqueeze"});
  CHECK(g.read().nodes.back().tensor == "y");
}

TEST_CASE("onnx: arithmetic with constants on either side") {
  onnx_graph g({1, 2});
  g.constant("two", {}, {2});
  g.constant("k", {2}, {1, 5});
  g.node("Sub", {"k", "x"}, {"a"});
  g.node("Mul", {"two", "a"}, {"b"});
  g.node("Div", {"b", "two"}, {"c"});
  g.node("Sub", {"c", "two"});
  CHECK(operators(g.read()) == names{"Input", "Neg", "Add", "Mul", "Div", "Sub"});
  CHECK(g.run({3, 4}) == reals{-4, -1});

  onnx_graph reciprocal({1, 2});
  reciprocal.constant("one", {1}, {1});
  reciprocal.node("Div", {"one", "x"});
  CHECK(contains(reciprocal.refusal(), "Div of a constant by computed values"));

  onnx_graph product({1, 2});
  product.node("Mul", {"x", "x"});
  CHECK(contains(product.refusal(), "Mul of two computed tensors"));
}

TEST_CASE("onnx: sums and differences of nodes") {
  onnx_graph g({1, 2});
  g.node("Relu", {"x"}, {"a"});
  g.node("Neg", {"x"}, {"b"});
  g.node("Add", {"a", "b"}, {"c"});
  g.node("Sub", {"c", "x"});
  CHECK(g.run({3, -4}) == reals{-3, 8});
}

TEST_CASE("onnx: structure") {
  SUBCASE("Transpose of the batch and of other axes") {
    onnx_graph g({1, 2, 3});
    set(g.node("Transpose", {"x"}), "perm", integers{0, 2, 1});
    CHECK(g.run({1, 2, 3, 4, 5, 6}) == reals{1, 4, 2, 5, 3, 6});
    CHECK(g.read().nodes.back().shape == hull::io::shape{3, 2});
  }
  SUBCASE("Slice with clamped and negative ends on two axes") {
    onnx_graph g({1, 2, 3});
    g.list("starts", {1, -2});
    g.list("ends", {std::numeric_limits<std::int64_t>::max(), -1});
    g.list("axes", {1, -1});
    g.node("Slice", {"x", "starts", "ends", "axes"});
    CHECK(operators(g.read()) == names{"Input", "Slice", "Slice"});
    CHECK(g.run({1, 2, 3, 4, 5, 6}) == reals{5});
  }
  SUBCASE("Slice with a step") {
    onnx_graph g({1, 5});
    g.list("starts", {0});
    g.list("ends", {5});
    g.list("axes", {1});
    g.list("steps", {2});
    g.node("Slice", {"x", "starts", "ends", "axes", "steps"});
    CHECK(g.run({1, 2, 3, 4, 5}) == reals{1, 3, 5});
  }
  SUBCASE("Split and Concat in another order") {
    onnx_graph g({1, 5});
    auto& split = g.node("Split", {"x"}, {"a", "b"});
    set(split, "axis", 1);
    set(split, "split", integers{2, 3});
    set(g.node("Concat", {"b", "a"}), "axis", -1);
    CHECK(g.run({1, 2, 3, 4, 5}) == reals{3, 4, 5, 1, 2});
  }
  SUBCASE("Concat along the batch, undone by Reshape") {
    onnx_graph g({1, 2});
    g.node("Neg", {"x"}, {"n"});
    set(g.node("Concat", {"x", "n"}, {"c"}), "axis", 0);
    g.list("s", {1, 4});
    g.node("Reshape", {"c", "s"});
    CHECK(g.run({1, 2}) == reals{1, 2, -1, -2});
  }
  SUBCASE("Gather of one, of neighbours, and of any order") {
    onnx_graph one({1, 2, 3});
    one.indices("i", {}, {-1});
    set(one.node("Gather", {"x", "i"}), "axis", 2);
    CHECK(one.run({1, 2, 3, 4, 5, 6}) == reals{3, 6});
    onnx_graph any({1, 4});
    any.list("i", {2, 3, 0});
    set(any.node("Gather", {"x", "i"}), "axis", 1);
    CHECK(operators(any.read()) == names{"Input", "Slice", "Slice", "Concat"});
    CHECK(any.run({1, 2, 3, 4}) == reals{3, 4, 1});
  }
}

TEST_CASE("onnx: constant sub-graphs are computed") {
  onnx_graph g({-7, 2, 3});
  g.indices("zero", {}, {0});
  g.list("axis0", {0});
  g.list("rest", {-1});
  g.node("Shape", {"x"}, {"shape"});
  g.node("Gather", {"shape", "zero"}, {"batch"});
  g.node("Unsqueeze", {"batch", "axis0"}, {"batch1"});
  set(g.node("Concat", {"batch1", "rest"}, {"target"}), "axis", 0);
  g.node("Reshape", {"x", "target"}, {"flat"});
  g.constant("w", {2, 6}, {1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1});
  g.node("Transpose", {"w"}, {"wt"});
  g.constant("three", {}, {3});
  g.node("Mul", {"wt", "three"}, {"scaled"});
  g.node("MatMul", {"flat", "scaled"});
  CHECK(operators(g.read()) == names{"Input", "Flatten", "Linear"});
  CHECK(g.run({1, 2, 3, 4, 5, 6}) == reals{63, 18});
  CHECK_FALSE(g.read().parameters.at("fc1.weight").rounded);
}

TEST_CASE("onnx: convolution") {
  SUBCASE("with padding, stride and a bias added behind") {
    onnx_graph g({1, 1, 3, 3});
    g.constant("w", {1, 1, 2, 2}, {1, 2, 3, 4});
    g.constant("b", {1, 1, 1, 1}, {10});
    auto& conv = g.node("Conv", {"x", "w"}, {"c"});
    set(conv, "pads", integers{1, 1, 0, 0});
    set(conv, "strides", integers{2, 2});
    g.node("Add", {"c", "b"});
    CHECK(operators(g.read()) == names{"Input", "Conv"});
    CHECK(g.run({1, 2, 3, 4, 5, 6, 7, 8, 9}) == reals{14, 28, 46, 87});
  }
  SUBCASE("in groups") {
    onnx_graph g({1, 2, 1, 2});
    g.constant("w", {2, 1, 1, 1}, {2, 3});
    set(g.node("Conv", {"x", "w"}), "group", 2);
    CHECK(g.run({1, 2, 3, 4}) == reals{2, 4, 9, 12});
  }
  SUBCASE("of one axis, twice: no change of shape in between") {
    onnx_graph g({1, 1, 5});
    g.constant("w", {1, 1, 2}, {1, -1});
    g.node("Conv", {"x", "w"}, {"a"});
    g.node("Relu", {"a"}, {"b"});
    g.node("Conv", {"b", "w"});
    CHECK(operators(g.read()) == names{"Input", "Unsqueeze", "Conv", "Relu", "Conv", "Squeeze"});
    CHECK(g.run({4, 1, 3, 2, 0}) == reals{3, -1, -1});
  }
  SUBCASE("SAME_LOWER") {
    onnx_graph g({1, 1, 1, 2});
    g.constant("w", {1, 1, 1, 2}, {1, 10});
    set(g.node("Conv", {"x", "w"}), "auto_pad", "SAME_LOWER");
    CHECK(g.run({1, 2}) == reals{10, 21});
  }
  SUBCASE("takes over a Pad of zeros") {
    onnx_graph g({1, 1, 1, 2});
    g.list("p", {0, 0, 0, 1, 0, 0, 0, 0});
    g.constant("w", {1, 1, 1, 2}, {1, 10});
    g.node("Pad", {"x", "p"}, {"q"});
    g.node("Conv", {"q", "w"});
    CHECK(operators(g.read()) == names{"Input", "Conv"});
    CHECK(g.run({1, 2}) == reals{10, 21});
  }
}

TEST_CASE("onnx: a Pad that nobody takes over is refused") {
  onnx_graph g({1, 1, 1, 2});
  g.list("p", {0, 0, 0, 1, 0, 0, 0, 0});
  g.node("Pad", {"x", "p"}, {"q"});
  g.node("Relu", {"q"});
  CHECK(contains(g.refusal(), "Pad is not supported here"));
}

TEST_CASE("onnx: pools") {
  reals const image{1, 2, 3, 4, 5, 6, 7, 8, 9};
  onnx_graph g({1, 1, 3, 3});
  SUBCASE("MaxPool, the last window cut off by ceil_mode") {
    auto& pool = g.node("MaxPool", {"x"});
    set(pool, "kernel_shape", integers{2, 2});
    set(pool, "strides", integers{2, 2});
    set(pool, "ceil_mode", 1);
    CHECK(g.run(image) == reals{5, 6, 8, 9});
  }
  SUBCASE("MaxPool behind a Pad needs values that are not negative") {
    g.list("p", {0, 0, 1, 1, 0, 0, 0, 0});
    g.node("Pad", {"x", "p"}, {"q"});
    set(g.node("MaxPool", {"q"}), "kernel_shape", integers{2, 2});
    CHECK(contains(g.refusal(), "zero-padded input that may be negative"));
  }
  SUBCASE("MaxPool behind Relu and Pad") {
    g.list("p", {0, 0, 1, 1, 0, 0, 0, 0});
    g.node("Relu", {"x"}, {"r"});
    g.node("Pad", {"r", "p"}, {"q"});
    set(g.node("MaxPool", {"q"}), "kernel_shape", integers{2, 2});
    CHECK(g.run(image) == image);
  }
  SUBCASE("AveragePool without the padding in its count") {
    auto& pool = g.node("AveragePool", {"x"});
    set(pool, "kernel_shape", integers{2, 2});
    set(pool, "strides", integers{3, 3});
    set(pool, "pads", integers{1, 1, 0, 0});
    CHECK(g.read().nodes.back().attributes.contains("exclude_pad"));
    CHECK(g.run(image) == reals{1});
  }
  SUBCASE("AveragePool with the padding in its count") {
    auto& pool = g.node("AveragePool", {"x"});
    set(pool, "kernel_shape", integers{2, 2});
    set(pool, "strides", integers{3, 3});
    set(pool, "pads", integers{1, 1, 0, 0});
    set(pool, "count_include_pad", 1);
    CHECK(g.run(image) == reals{0.25});
  }
  SUBCASE("GlobalAveragePool") {
    g.node("GlobalAveragePool", {"x"});
    CHECK(g.run(image) == reals{5});
  }
  SUBCASE("ReduceMean over height and width") {
    auto& mean = g.node("ReduceMean", {"x"});
    set(mean, "axes", integers{-1, -2});
    set(mean, "keepdims", 0);
    CHECK(operators(g.read()) == names{"Input", "GlobalAveragePool", "Flatten"});
    CHECK(g.run(image) == reals{5});
  }
}

TEST_CASE("onnx: activations and BatchNormalization") {
  onnx_graph g({1, 2});
  SUBCASE("LeakyRelu") {
    set(g.node("LeakyRelu", {"x"}), "alpha", 0.25f);
    CHECK(g.run({-4, 4}) == reals{-1, 4});
    CHECK(g.read().nodes.back().name == "leaky_relu1");
  }
  SUBCASE("Clip from 0") {
    set(g.node("Clip", {"x"}), "min", 0.0f);
    CHECK(operators(g.read()) == names{"Input", "Relu"});
  }
  SUBCASE("BatchNormalization") {
    g.constant("scale", {2}, {2, 1});
    g.constant("bias", {2}, {0, 1});
    g.constant("mean", {2}, {1, 1});
    g.constant("variance", {2}, {3.75f, 0.75f});
    set(g.node("BatchNormalization", {"x", "scale", "bias", "mean", "variance"}), "epsilon", 0.25f);
    CHECK(g.run({3, 3}) == reals{2, 3});
    CHECK(g.read().nodes.back().name == "bn1");
  }
}

TEST_CASE("onnx: element types") {
  onnx_graph g({1, 1});
  g.node("Mul", {"x", "k"});
  using type = ::onnx::TensorProto;
  SUBCASE("double that is a float") {
    g.empty_constant("k", {1}, type::DOUBLE).add_double_data(0.5);
    CHECK_FALSE(g.read().parameters.at("mul1.constant").rounded);
  }
  SUBCASE("double that is no float") {
    g.empty_constant("k", {1}, type::DOUBLE).add_double_data(0.1);
    CHECK(g.read().parameters.at("mul1.constant").rounded);
    CHECK(g.read().parameters.at("mul1.constant").values == floats{0.1f});
  }
  SUBCASE("half") {
    g.empty_constant("k", {1}, type::FLOAT16).add_int32_data(0xc100);
    CHECK(g.read().parameters.at("mul1.constant").values == floats{-2.5f});
  }
  SUBCASE("bfloat16") {
    g.empty_constant("k", {1}, type::BFLOAT16).add_int32_data(0x3fc0);
    CHECK(g.read().parameters.at("mul1.constant").values == floats{1.5f});
  }
  SUBCASE("packed float") {
    g.empty_constant("k", {1}, type::FLOAT).set_raw_data(std::string("\0\0\x80\x3f", 4));
    CHECK(g.read().parameters.at("mul1.constant").values == floats{1});
  }
}

TEST_CASE("onnx: what is refused, and how") {
  onnx_graph g({1, 2});
  SUBCASE("an unknown operator") {
    g.node("Softmax", {"x"});
    CHECK(g.refusal() == "test.onnx: node \"Softmax_1\": operator Softmax is not supported (docs/operators.md)");
  }
  SUBCASE("an operator of another domain") {
    g.node("Relu", {"x"}).set_domain("com.example");
    CHECK(contains(g.refusal(), "operator com.example.Relu is not supported"));
  }
  SUBCASE("NaN") {
    g.constant("k", {1}, {std::numeric_limits<float>::quiet_NaN()});
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "tensor \"k\" has a value that is not a finite float"));
  }
  SUBCASE("a double beyond float") {
    g.empty_constant("k", {1}, ::onnx::TensorProto::DOUBLE).add_double_data(1e300);
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "not a finite float"));
  }
  SUBCASE("data outside the file") {
    g.empty_constant("k", {1}, ::onnx::TensorProto::FLOAT).set_data_location(::onnx::TensorProto::EXTERNAL);
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "tensor \"k\" is stored outside the file"));
  }
  SUBCASE("too few values") {
    g.constant("k", {3}, {1});
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "holds 1 values, its shape needs 3"));
  }
  SUBCASE("dimensions beyond 64 bits") {
    g.constant("k", {std::int64_t{1} << 40, std::int64_t{1} << 40}, {});
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "is too large"));
  }
  SUBCASE("an empty constant with a huge dimension") {
    g.list("dims", {0, std::int64_t{1} << 40});
    g.node("ConstantOfShape", {"dims"}, {"k"});
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "is too large"));
  }
  SUBCASE("a negative dimension") {
    g.constant("k", {-2}, {});
    g.node("Add", {"x", "k"});
    CHECK(contains(g.refusal(), "has a negative dimension"));
  }
  SUBCASE("a cycle") {
    g.node("Add", {"x", "b"}, {"a"});
    g.node("Relu", {"a"}, {"b"});
    g.node("Relu", {"b"});
    CHECK(contains(g.refusal(), "\"b\" is not defined before this node"));
  }
  SUBCASE("an input that is missing") {
    g.node("Add", {"x", "nobody"});
    CHECK(contains(g.refusal(), "\"nobody\" is not defined"));
  }
  SUBCASE("two inputs") {
    g.add_input("z", {1, 2});
    g.node("Add", {"x", "z"});
    CHECK(contains(g.refusal(), "has several inputs (\"x\", \"z\")"));
  }
  SUBCASE("two outputs") {
    g.node("Relu", {"x"});
    g.proto.mutable_graph()->add_output()->set_name("x");
    CHECK(contains(g.refusal(), "has 2 outputs"));
  }
  SUBCASE("an output that is constant") {
    g.constant("k", {1}, {1});
    g.node("Neg", {"k"});
    CHECK(contains(g.refusal(), "does not depend on an input"));
  }
  SUBCASE("no bytes and wrong bytes") {
    CHECK_THROWS_AS(static_cast<void>(hull::io::read_onnx("", "empty.onnx")), hull::error);
    CHECK_THROWS_AS(static_cast<void>(hull::io::read_onnx("hello, world", "text.onnx")), hull::error);
  }
}

TEST_CASE("onnx: what is not needed does not matter") {
  onnx_graph g({1, 2});
  g.constant("w", {2}, {1, 2});
  g.add_input("w", {2});       // an initializer listed as input
  g.add_input("unused", {3});  // an input nobody reads
  g.constant("lost", {1}, {std::numeric_limits<float>::infinity()});
  g.node("Softmax", {"x"}, {"nowhere"});
  g.node("Add", {"x", "w"});
  CHECK(g.run({1, 1}) == reals{2, 3});
}

TEST_CASE("onnx: equal operators are one node") {
  onnx_graph g({1, 2});
  g.node("Relu", {"x"}, {"a"});
  g.node("Relu", {"x"}, {"b"});
  g.node("Add", {"a", "b"});
  CHECK(operators(g.read()) == names{"Input", "Relu", "Add"});
  CHECK(g.run({3, -1}) == reals{6, 0});
}

TEST_CASE("onnx: every shared model is read, or refused with the operator named") {
#ifdef HULL_SHARED_DIR
  std::filesystem::path const shared = HULL_SHARED_DIR;
#else
  char const* const variable = std::getenv("HULL_SHARED");
  std::filesystem::path const shared = variable ? variable : "";
#endif
  if (shared.empty() || !std::filesystem::is_directory(shared)) {
    MESSAGE("no shared folder: skipped");
    return;
  }
  std::size_t read = 0;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(shared)) {
    std::string const name = entry.path().string();
    if (!entry.is_regular_file() || (!name.ends_with(".onnx") && !name.ends_with(".onnx.gz"))) continue;
    try {
      auto const m = hull::io::load_onnx(entry.path());
      CHECK_MESSAGE(hull::io::expression_order(m).size() == m.nodes.size(), name);
      CHECK(contains(hull::io::emit_header(m), "network_graph()"));
      ++read;
    } catch (hull::error const& e) {
      std::string const message = e.what();
      names const expected_refusals = {"Softmax", "Sin", "Cos", "Mul", "Pow", "MatMul"};
      bool const named = std::any_of(expected_refusals.begin(), expected_refusals.end(), [&](auto const& op) {
        return contains(message, "\": operator " + op) || contains(message, "\": " + op);
      });
      CHECK_MESSAGE((named && !contains(name, "oracle")), message);
    }
  }
  CHECK(read > 0);
}
