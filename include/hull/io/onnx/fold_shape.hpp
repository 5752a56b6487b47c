// SPDX-License-Identifier: Apache-2.0
// Constant folding of operators that only move or select elements: shapes, indices, slices of weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

}  // namespace hull::io::onnx_reader
