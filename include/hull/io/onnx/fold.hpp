// SPDX-License-Identifier: Apache-2.0
// Operators whose inputs are all known are computed when the file is read: shapes, indices, derived weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>
#include <hull/io/onnx/structure.hpp>

namespace hull::io::onnx_reader {

using integer_list = std::vector<std::int64_t>;

/// A copy of `c` with other dimensions.
[[nodiscard]] inline constant with_dims(constant c, shape dims) {
  c.dims = std::move(dims);
  return c;
}

inline void fold_constant(context& c) {
  auto const& a = c.attributes();
  if (auto const* t = a.tensor("value")) return c.define(0, decode(*t, c.where()));
  if (a.has("value_float")) return c.define(0, {{}, std::vector<float>{a.real("value_float", 0)}, false, {}});
  if (a.has("value_int")) return c.define(0, {{}, integer_list{a.integer("value_int", 0)}, false, {}});
  if (auto const list = a.reals("value_floats")) return c.define(0, {{list->size()}, *list, false, {}});
  if (auto const list = a.integers("value_ints")) return c.define(0, {{list->size()}, *list, false, {}});
  c.refuse("without a tensor of numbers is not supported");
}

inline void fold_shape(context& c) {
  shape const dims = c.input(0).dims;
  auto const rank = static_cast<std::int64_t>(dims.size());
  auto const clamp = [&](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + rank : i, 0, rank); };
  auto const start = clamp(c.attributes().integer("start", 0));
  auto const end = std::max(start, clamp(c.attributes().integer("end", rank)));
  integer_list const result(dims.begin() + start, dims.begin() + end);
  c.define(0, {{result.size()}, result, false, {}});
}

inline void fold_constant_of_shape(context& c) {
  shape dims;
  for (auto const d : c.integers(0).value_or(integer_list{})) {
    c.require(d >= 0, "has a negative dimension");
    dims.push_back(static_cast<std::size_t>(d));
  }
  std::size_t const n = count(dims, c.where());
  c.grow(n);
  auto const* t = c.attributes().tensor("value");
  constant const fill = t ? decode(*t, c.where()) : constant{{1}, std::vector<float>{0.0f}, false, {}};
  c.require(fill.size() == 1, "needs one value");
  c.define(0, pick(with_dims(fill, {}), dims, broadcast_table({}, dims)));
}

inline void fold_cast(context& c) {
  constant x = c.known(0);
  auto const to = c.attributes().integer("to", 0);
  if (to == tensor_proto::FLOAT || to == tensor_proto::DOUBLE) {
    if (x.is_integer()) x.values = as_reals(x);
  } else if (to == tensor_proto::INT64 || to == tensor_proto::INT32 || to == tensor_proto::BOOL) {
    if (!x.is_integer()) {
      integer_list result(x.size());
      for_each_real(x, [&](std::size_t i, double v) {
        c.require(std::abs(v) < 0x1p53, "of a number that is no integer index is not supported");
        result[i] = to == tensor_proto::BOOL ? v != 0.0 : static_cast<std::int64_t>(v);
      });
      x.values = std::move(result);
    } else if (to == tensor_proto::BOOL) {
      for (auto& v : std::get<integer_list>(x.values)) v = v != 0;
    }
  } else {
    c.refuse("to type " + std::to_string(to) + " is not supported");
  }
  c.define(0, std::move(x));
}

inline void fold_reshape(context& c) {
  auto const request = c.integers(1, "shape");
  c.require(request.has_value(), "lacks its shape");
  constant x = c.take(0);
  shape dims = reshaped(x.dims, *request, c.attributes().integer("allowzero", 0) != 0, c.where());
  c.define(0, with_dims(std::move(x), std::move(dims)));
}

inline void fold_flatten(context& c) {
  shape dims = flattened(c.known(0).dims, c.attributes().integer("axis", 1), c.where());
  c.define(0, with_dims(c.take(0), std::move(dims)));
}

inline void fold_squeeze(context& c) {
  shape dims = squeezed(c.known(0).dims, c.integers(1, "axes").value_or(integer_list{}), c.where());
  c.define(0, with_dims(c.take(0), std::move(dims)));
}

inline void fold_unsqueeze(context& c) {
  auto const axes = c.integers(1, "axes");
  c.require(axes.has_value(), "lacks its axes");
  shape dims = unsqueezed(c.known(0).dims, *axes, c.where());
  c.define(0, with_dims(c.take(0), std::move(dims)));
}

inline void fold_transpose(context& c) {
  constant const x = c.take(0);
  auto const given = c.attributes().integers("perm");
  auto const perm = permutation(given.value_or(integer_list{}), given.has_value(), x.dims.size(), c.where());
  if (perm == std::vector<std::size_t>{1, 0}) return c.define(0, transposed(x));
  auto const step = strides(x.dims);
  offset_table table;
  shape dims;
  for (auto const a : perm) {
    dims.push_back(x.dims[a]);
    table.emplace_back(x.dims[a]);
    for (std::size_t i = 0; i < x.dims[a]; ++i) table.back()[i] = i * step[a];
  }
  c.define(0, pick(x, std::move(dims), table));
}

/// The table that takes all of `dims`.
[[nodiscard]] inline offset_table whole(shape const& dims) { return broadcast_table(dims, dims); }

inline void fold_slice(context& c) {
  constant const& x = c.known(0);
  auto table = whole(x.dims);
  shape dims = x.dims;
  for (auto const& [axis, part] : slice_request(c, x.dims)) {
    std::vector<std::size_t> kept(part.size);
    for (std::size_t i = 0; i < part.size; ++i) {
      kept[i] = table[axis][static_cast<std::size_t>(part.start + static_cast<std::int64_t>(i) * part.step)];
    }
    table[axis] = std::move(kept);
    dims[axis] = part.size;
  }
  c.define(0, pick(x, std::move(dims), table));
}

inline void fold_gather(context& c) {
  constant const& x = c.known(0);
  constant const& chosen = c.known(1);
  c.require(chosen.is_integer(), "needs integer indices");
  auto const axis = axis_index(c.attributes().integer("axis", 0), x.dims.size(), c.where());
  auto table = whole(x.dims);
  std::vector<std::size_t> kept;
  for (auto const i : std::get<integer_list>(chosen.values))
    kept.push_back(table[axis][axis_index(i, x.dims[axis], c.where())]);
  table[axis] = std::move(kept);
  shape dims = x.dims;
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), chosen.dims.begin(), chosen.dims.end());
  std::size_t const n = count(dims, c.where());
  c.grow(n - std::min(n, x.size()));
  c.define(0, pick(x, std::move(dims), table));
}

inline void fold_expand(context& c) {
  constant const& x = c.known(0);
  shape request;
  for (auto const d : c.integers(1).value_or(integer_list{})) {
    c.require(d >= 0, "has a negative dimension");
    request.push_back(static_cast<std::size_t>(d));
  }
  shape dims = broadcast(x.dims, request, c.where());
  std::size_t const n = count(dims, c.where());
  c.grow(n - std::min(n, x.size()));
  auto const table = broadcast_table(x.dims, dims);
  c.define(0, pick(x, std::move(dims), table));
}

inline void fold_concat(context& c) {
  constant const& first = c.known(0);
  auto const axis = axis_index(c.attributes().integer("axis", 1), first.dims.size(), c.where());
  shape dims = first.dims;
  dims[axis] = 0;
  bool all_integers = true;
  bool rounded = false;
  for (std::size_t i = 0; i < c.input_count(); ++i) {
    shape expected = first.dims;
    constant const& part = c.known(i);
    if (part.dims.size() == expected.size()) expected[axis] = part.dims[axis];
    c.require(part.dims == expected, "of shapes " + spell(first.dims) + " and " + spell(part.dims));
    dims[axis] += part.dims[axis];
    all_integers = all_integers && part.is_integer();
    rounded = rounded || part.rounded;
  }
  auto const total = count(dims, c.where());
  std::size_t const before = count({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)}, c.where());
  auto const join = [&](auto to) {
    std::size_t at = 0;
    for (std::size_t b = 0; b < before; ++b) {
      for (std::size_t i = 0; i < c.input_count(); ++i) {
        std::visit(
            [&](auto const& from) {
              std::size_t const length = from.size() / before;
              for (std::size_t k = 0; k < length; ++k) {
                to[at++] = static_cast<typename decltype(to)::value_type>(from[b * length + k]);
              }
            },
            c.known(i).values);
      }
    }
    return to;
  };
  element_list values =
      all_integers ? element_list(join(integer_list(total))) : element_list(join(std::vector<double>(total)));
  c.define(0, {std::move(dims), std::move(values), rounded, {}});
}

inline void fold_range(context& c) {
  auto const scalar = [&](std::size_t i) {
    c.require(c.known(i).is_integer() && c.known(i).size() == 1, "is supported for integers only");
    return std::get<integer_list>(c.known(i).values)[0];
  };
  std::int64_t const start = scalar(0), limit = scalar(1), step = scalar(2), big = std::int64_t{1} << 40;
  c.require(step != 0 && std::abs(start) < big && std::abs(limit) < big && std::abs(step) < big, "has bad bounds");
  auto const n =
      static_cast<std::size_t>(std::max<std::int64_t>(0, (limit - start + step - (step > 0 ? 1 : -1)) / step));
  c.grow(n);
  integer_list result(n);
  for (std::size_t i = 0; i < n; ++i) result[i] = start + static_cast<std::int64_t>(i) * step;
  c.define(0, {{n}, std::move(result), false, {}});
}

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
  auto axes = c.integers(1, "axes").value_or(integer_list{});
  std::vector<bool> drop(x.dims.size(), axes.empty());
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
  if (x.is_integer() && c.op() != "ReduceMean") {
    for (auto const v : result) c.require(std::abs(v) < 0x1p53, "of large integers is not supported");
    return c.define(0, {std::move(dims), integer_list(result.begin(), result.end()), false, {}});
  }
  c.define(0, {std::move(dims), std::move(result), true, {}});
}

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
