// SPDX-License-Identifier: Apache-2.0
// Constant folding of operators that compute: in double, remembering whether the result is exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>
#include <hull/io/onnx/fold_shape.hpp>

namespace hull::io::onnx_reader {

/// A binary operation, and whether its result is exact.
struct arithmetic {
  double (*real)(double, double);
  bool (*exact)(double, double, double);
  std::optional<std::int64_t> (*integer)(std::int64_t, std::int64_t);
};

[[nodiscard]] inline bool sum_is_exact(double a, double b, double s) {
  double const b_part = s - a;
  return (a - (s - b_part)) + (b - b_part) == 0.0;
}

[[nodiscard]] inline std::map<std::string_view, arithmetic> const& arithmetic_by_name() {
  using i64 = std::int64_t;
  using result = std::optional<i64>;
  static std::map<std::string_view, arithmetic> const table = {
      {"Add",
       {[](double a, double b) { return a + b; }, sum_is_exact,
        [](i64 a, i64 b) {
          i64 r = 0;
          return __builtin_add_overflow(a, b, &r) ? result() : result(r);
        }}},
      {"Sub",
       {[](double a, double b) { return a - b; }, [](double a, double b, double s) { return sum_is_exact(a, -b, s); },
        [](i64 a, i64 b) {
          i64 r = 0;
          return __builtin_sub_overflow(a, b, &r) ? result() : result(r);
        }}},
      {"Mul",
       {[](double a, double b) { return a * b; },
        [](double a, double b, double p) { return std::fma(a, b, -p) == 0.0; },
        [](i64 a, i64 b) {
          i64 r = 0;
          return __builtin_mul_overflow(a, b, &r) ? result() : result(r);
        }}},
      {"Div",
       {[](double a, double b) { return a / b; },
        [](double a, double b, double q) { return std::fma(q, b, -a) == 0.0; },
        [](i64 a, i64 b) {
          return b == 0 || (b == -1 && a == std::numeric_limits<i64>::min()) ? result() : result(a / b);
        }}},
      {"Pow",
       {[](double a, double b) { return std::pow(a, b); }, [](double, double b, double) { return b == 1.0; },
        [](i64, i64) { return result(); }}},
      {"Equal",
       {[](double a, double b) { return a == b ? 1.0 : 0.0; }, [](double, double, double) { return true; },
        [](i64 a, i64 b) { return result(a == b); }}},
      {"Min",
       {[](double a, double b) { return std::fmin(a, b); }, [](double, double, double) { return true; },
        [](i64 a, i64 b) { return result(std::min(a, b)); }}},
      {"Max",
       {[](double a, double b) { return std::fmax(a, b); }, [](double, double, double) { return true; },
        [](i64 a, i64 b) { return result(std::max(a, b)); }}},
  };
  return table;
}

/// `f` on every pair of elements that broadcasting brings together.
template <class F>
void for_each_pair(constant const& a, constant const& b, shape const& dims, F f) {
  std::vector<std::size_t> from_a;
  for_each_offset(broadcast_table(a.dims, dims), 0, [&](std::size_t, std::size_t i) { from_a.push_back(i); });
  for_each_offset(broadcast_table(b.dims, dims), 0, [&](std::size_t out, std::size_t i) { f(out, from_a[out], i); });
}

inline void fold_arithmetic(context& c) {
  c.require(c.input_count() == 2, "needs two inputs");
  c.require(!c.attributes().has("axis"), "with the attribute axis is not supported");
  constant const& a = c.known(0);
  constant const& b = c.known(1);
  arithmetic const& f = arithmetic_by_name().at(c.op());
  shape const dims = broadcast(a.dims, b.dims, c.where());
  std::size_t const n = count(dims, c.where());
  c.grow(n - std::min(n, std::max(a.size(), b.size())));
  bool rounded = a.rounded || b.rounded;
  if (a.is_integer() && b.is_integer()) {
    integer_list result(n);
    auto const& x = std::get<integer_list>(a.values);
    auto const& y = std::get<integer_list>(b.values);
    for_each_pair(a, b, dims, [&](std::size_t out, std::size_t i, std::size_t j) {
      auto const r = f.integer(x[i], y[j]);
      c.require(r.has_value(), "of integer constants overflows or divides by zero");
      result[out] = *r;
    });
    return c.define(0, {dims, std::move(result), rounded, {}});
  }
  std::vector<double> result(n);
  auto const x = as_reals(a), y = as_reals(b);
  for_each_pair(a, b, dims, [&](std::size_t out, std::size_t i, std::size_t j) {
    result[out] = f.real(x[i], y[j]);
    rounded = rounded || !f.exact(x[i], y[j], result[out]);
  });
  if (c.op() == "Equal") return c.define(0, {dims, integer_list(result.begin(), result.end()), false, {}});
  c.define(0, {dims, std::move(result), rounded, {}});
}

/// An elementwise function of one input; `exact` if its results are.
struct unary {
  double (*real)(double);
  bool exact;
};

[[nodiscard]] inline std::map<std::string_view, unary> const& unary_by_name() {
  static std::map<std::string_view, unary> const table = {
      {"Neg", {[](double x) { return -x; }, true}},
      {"Abs", {[](double x) { return std::abs(x); }, true}},
      {"Relu", {[](double x) { return x > 0 ? x : 0.0; }, true}},
      {"Floor", {[](double x) { return std::floor(x); }, true}},
      {"Ceil", {[](double x) { return std::ceil(x); }, true}},
      {"Sqrt", {[](double x) { return std::sqrt(x); }, false}},
      {"Exp", {[](double x) { return std::exp(x); }, false}},
      {"Log", {[](double x) { return std::log(x); }, false}},
      {"Sin", {[](double x) { return std::sin(x); }, false}},
      {"Cos", {[](double x) { return std::cos(x); }, false}},
      {"Tanh", {[](double x) { return std::tanh(x); }, false}},
      {"Reciprocal", {[](double x) { return 1 / x; }, false}},
  };
  return table;
}

inline void fold_unary(context& c) {
  unary const& f = unary_by_name().at(c.op());
  constant x = c.take(0);
  bool const was_integer = x.is_integer();
  std::vector<double> result = as_reals(x);
  for (auto& v : result) v = f.real(v);
  if (was_integer) {
    for (auto const v : result) c.require(std::abs(v) < 0x1p53, "of a large integer is not supported");
    x.values = integer_list(result.begin(), result.end());
  } else {
    x.values = std::move(result);
  }
  x.rounded = x.rounded || !f.exact;
  c.define(0, std::move(x));
}

inline void fold_where(context& c) {
  shape const dims = broadcast(broadcast(c.known(0).dims, c.known(1).dims, c.where()), c.known(2).dims, c.where());
  std::size_t const n = count(dims, c.where());
  for (int i = 0; i < 3; ++i) c.grow(n);
  auto const spread = [&](std::size_t i) { return pick(c.known(i), dims, broadcast_table(c.known(i).dims, dims)); };
  constant const condition = spread(0), yes = spread(1), no = spread(2);
  c.require(condition.is_integer() && yes.is_integer() == no.is_integer(), "of mixed types is not supported");
  auto const& choose = std::get<integer_list>(condition.values);
  bool const rounded = yes.rounded || no.rounded;
  if (yes.is_integer()) {
    integer_list result = std::get<integer_list>(yes.values);
    for (std::size_t i = 0; i < n; ++i) result[i] = choose[i] ? result[i] : std::get<integer_list>(no.values)[i];
    return c.define(0, {dims, std::move(result), rounded, {}});
  }
  std::vector<double> result = as_reals(yes);
  for_each_real(no, [&](std::size_t i, double v) { result[i] = choose[i] ? result[i] : v; });
  c.define(0, {dims, std::move(result), rounded, {}});
}

/// The product of two constant matrices (or vectors).
inline void fold_matmul(context& c) {
  constant const& a = c.known(0);
  constant const& b = c.known(1);
  c.require(!a.dims.empty() && a.dims.size() <= 2 && !b.dims.empty() && b.dims.size() <= 2,
            "of constant stacks is not supported");
  std::size_t const rows = a.dims.size() == 2 ? a.dims[0] : 1, inner = a.dims.back();
  std::size_t const columns = b.dims.size() == 2 ? b.dims[1] : 1;
  c.require(b.dims[0] == inner, "of shapes " + spell(a.dims) + " and " + spell(b.dims));
  std::size_t const n = count({rows, columns}, c.where());
  c.require(count({rows, columns, inner}, c.where()) <= std::size_t{1} << 28, "of large constants is not supported");
  c.grow(n);
  auto const x = as_reals(a), y = as_reals(b);
  std::vector<double> result(n, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < inner; ++k) {
      for (std::size_t j = 0; j < columns; ++j) result[i * columns + j] += x[i * inner + k] * y[k * columns + j];
    }
  }
  shape dims;
  if (a.dims.size() == 2) dims.push_back(rows);
  if (b.dims.size() == 2) dims.push_back(columns);
  c.define(0, {std::move(dims), std::move(result), true, {}});
}

/// Sum, mean or product over some axes.
inline void fold_reduce(context& c) {
  constant const& x = c.known(0);
  c.require(c.op() != "ReduceMean" || !x.is_integer(), "of integers is not supported");  // it would round
  auto axes = c.integers(1, "axes").value_or(integer_list{});
  bool const all = axes.empty() && c.attributes().integer("noop_with_empty_axes", 0) == 0;
  std::vector<bool> drop(x.dims.size(), all);
  for (auto const a : axes) drop[axis_index(a, x.dims.size(), c.where())] = true;
  shape kept = x.dims, dims;
  std::size_t reduced = 1;
  for (std::size_t a = 0; a < x.dims.size(); ++a) {
    if (drop[a]) reduced *= kept[a];
    if (drop[a]) kept[a] = 1;
    if (!drop[a] || c.attributes().integer("keepdims", 1) != 0) dims.push_back(kept[a]);
  }
  bool const product = c.op() == "ReduceProd";
  std::vector<double> result(count(kept, c.where()), product ? 1.0 : 0.0);
  c.grow(result.size() - std::min(result.size(), x.size()));
  auto const numbers_of_x = as_reals(x);
  for_each_offset(broadcast_table(kept, x.dims), 0, [&](std::size_t in, std::size_t out) {
    result[out] = product ? result[out] * numbers_of_x[in] : result[out] + numbers_of_x[in];
  });
  if (c.op() == "ReduceMean") {
    for (auto& v : result) v /= static_cast<double>(reduced);
  }
  if (x.is_integer()) {
    for (auto const v : result) c.require(std::abs(v) < 0x1p53, "of large integers is not supported");
    return c.define(0, {std::move(dims), integer_list(result.begin(), result.end()), false, {}});
  }
  c.define(0, {std::move(dims), std::move(result), true, {}});
}

}  // namespace hull::io::onnx_reader
