// SPDX-License-Identifier: Apache-2.0
// Operators whose inputs are all known are computed when the file is read: shapes, indices, derived weights.
#pragma once

#include <functional>
#include <map>
#include <string_view>

#include <hull/io/onnx/context.hpp>
#include <hull/io/onnx/fold_arithmetic.hpp>
#include <hull/io/onnx/fold_shape.hpp>

namespace hull::io::onnx_reader {

using translation = std::function<void(context&)>;

/// What to do with an operator whose inputs are all constant.
[[nodiscard]] inline std::map<std::string_view, translation> const& folds() {
  static std::map<std::string_view, translation> const table = [] {
    auto const same = [](context& c) {
      c.only_first_outputs(1);
      c.define(0, c.take(0));
    };
    std::map<std::string_view, translation> t = {
        {"Constant", fold_constant},
        {"Shape", fold_shape},
        {"ConstantOfShape", fold_constant_of_shape},
        {"Cast", fold_cast},
        {"Reshape", fold_reshape},
        {"Flatten", fold_flatten},
        {"Squeeze", fold_squeeze},
        {"Unsqueeze", fold_unsqueeze},
        {"Transpose", fold_transpose},
        {"Slice", fold_slice},
        {"Gather", fold_gather},
        {"Expand", fold_expand},
        {"Concat", fold_concat},
        {"Range", fold_range},
        {"Where", fold_where},
        {"MatMul", fold_matmul},
        {"ReduceSum", fold_reduce},
        {"ReduceMean", fold_reduce},
        {"ReduceProd", fold_reduce},
        {"Identity", same},
        {"Dropout", same},
    };
    for (auto const& [name, f] : arithmetic_by_name()) t[name] = fold_arithmetic;
    for (auto const& [name, f] : unary_by_name()) t[name] = fold_unary;
    return t;
  }();
  return table;
}

}  // namespace hull::io::onnx_reader
