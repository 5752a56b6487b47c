// SPDX-License-Identifier: Apache-2.0
// Operators that move elements and compute nothing: shapes, slices, concatenation, padding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/onnx/context.hpp>

namespace hull::io::onnx_reader {

inline void translate_identity(context& c) {
  value const& x = c.variable(0);
  c.define(0, x.dims, x.node);
}

inline void translate_dropout(context& c) {
  c.only_first_outputs(1);
  c.require(c.attributes().integer("is_test", 1) != 0, "in training mode is not supported");  // before opset 7
  if (c.has(2)) {
    auto const training = c.integers(2);
    c.require(training->empty() || (*training)[0] == 0, "in training mode is not supported");
  }
  translate_identity(c);
}

inline void translate_cast(context& c) {
  auto const to = c.attributes().integer("to", 0);
  c.require(to == tensor_proto::FLOAT || to == tensor_proto::DOUBLE,
            "to other types than float and double is not supported");
  translate_identity(c);
}

inline void translate_reshape(context& c) {
  value const& x = c.variable(0);
  auto const request = c.integers(1, "shape");
  c.require(request.has_value(), "lacks its shape");
  c.define(0, reshaped(x.dims, *request, c.attributes().integer("allowzero", 0) != 0, c.where()), x.node);
}

inline void translate_flatten(context& c) {
  value const& x = c.variable(0);
  c.define(0, flattened(x.dims, c.attributes().integer("axis", 1), c.where()), x.node);
}

inline void translate_squeeze(context& c) {
  value const& x = c.variable(0);
  auto const axes = c.integers(1, "axes");
  c.define(0, squeezed(x.dims, axes.value_or(std::vector<std::int64_t>{}), c.where()), x.node);
}

inline void translate_unsqueeze(context& c) {
  value const& x = c.variable(0);
  auto const axes = c.integers(1, "axes");
  c.require(axes.has_value(), "lacks its axes");
  c.define(0, unsqueezed(x.dims, *axes, c.where()), x.node);
}

/// A node together with the number of ONNX axes that its shape lacks in front: 1 if the batch is left out.
struct axes_view {
  std::size_t node = 0;
  std::size_t missing = 0;
};

/// The node of `x`, with the batch dimension put back if `axis` needs it.
[[nodiscard]] inline axes_view with_axis(context const& c, value const& x, std::size_t axis) {
  if (!has_batch(x.dims)) return {x.node, 0};
  if (axis > 0) return {x.node, 1};
  return {c.network().reshape(x.node, x.dims, c.where()), 0};
}

inline void translate_transpose(context& c) {
  value const& x = c.variable(0);
  auto const given = c.attributes().integers("perm");
  auto const perm =
      permutation(given.value_or(std::vector<std::int64_t>{}), given.has_value(), x.dims.size(), c.where());
  shape dims;
  std::vector<std::size_t> moved;  // axes that have more than one element, in their new order
  for (auto const a : perm) {
    dims.push_back(x.dims[a]);
    if (x.dims[a] > 1) moved.push_back(a);
  }
  if (std::is_sorted(moved.begin(), moved.end())) return c.define(0, dims, x.node);
  auto const view = with_axis(c, x, perm[0] == 0 ? 1 : 0);  // the batch may stay where it is
  shape target;
  std::vector<std::int64_t> axes;
  for (std::size_t i = view.missing; i < perm.size(); ++i) {
    target.push_back(dims[i]);
    axes.push_back(static_cast<std::int64_t>(perm[i] - view.missing));
  }
  c.define(0, dims, c.network().add("Transpose", {view.node}, target, {{"perm", axes}}, c.where()));
}

/// Elements start, start + step, ... of one axis of `x`; the result still has that axis.
[[nodiscard]] inline value sliced(context const& c, value const& x, std::size_t axis, range part) {
  c.require(part.size > 0, "leaves nothing of axis " + std::to_string(axis));
  if (part.size == 1) part.step = 1;
  c.require(part.step > 0, "with a negative step is not supported");
  value result = x;
  if (part.size == x.dims[axis] && part.start == 0) return result;
  auto const view = with_axis(c, x, axis);
  shape target = c.network().at(view.node).shape;
  std::size_t const at = axis - view.missing;
  target[at] = part.size;
  auto const end = part.start + static_cast<std::int64_t>(part.size - 1) * part.step + 1;
  auto const node = c.network().add(
      "Slice", {view.node}, target,
      {{"axis", {static_cast<std::int64_t>(at)}}, {"start", {part.start}}, {"end", {end}}, {"step", {part.step}}},
      c.where());
  result.dims[axis] = part.size;
  result.node = c.network().reshape(node, without_batch(result.dims), c.where());
  return result;
}

/// The ranges that a Slice node takes of each axis of `dims`. Attributes before opset 10, inputs since.
[[nodiscard]] inline std::vector<std::pair<std::size_t, range>> slice_request(context const& c, shape const& dims) {
  auto const starts = c.integers(1, "starts");
  auto const ends = c.integers(2, "ends");
  c.require(starts && ends && starts->size() == ends->size(), "needs as many starts as ends");
  std::vector<std::int64_t> axes;
  if (auto const given = c.integers(3, "axes")) {
    axes = *given;
  } else {
    for (std::size_t i = 0; i < starts->size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  auto const steps = c.integers(4).value_or(std::vector<std::int64_t>(starts->size(), 1));
  c.require(axes.size() == starts->size() && steps.size() == starts->size(), "needs as many axes and steps as starts");
  std::vector<std::pair<std::size_t, range>> result;
  std::vector<bool> seen(dims.size(), false);
  for (std::size_t i = 0; i < starts->size(); ++i) {
    auto const a = axis_index(axes[i], dims.size(), c.where());
    c.require(!seen[a], "lists axis " + std::to_string(a) + " twice");
    seen[a] = true;
    result.emplace_back(a, slice_range((*starts)[i], (*ends)[i], steps[i], dims[a], c.where()));
  }
  return result;
}

inline void translate_slice(context& c) {
  value x = c.variable(0);
  for (auto const& [axis, part] : slice_request(c, x.dims)) x = sliced(c, x, axis, part);
  c.define(0, x.dims, x.node);
}

inline void translate_split(context& c) {
  value const x = c.variable(0);
  auto const axis = axis_index(c.attributes().integer("axis", 0), x.dims.size(), c.where());
  auto const given = c.integers(1, "split").value_or(std::vector<std::int64_t>{});
  auto const sizes = split_sizes(given, c.output_count(), x.dims[axis], c.where());
  std::int64_t start = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (c.wanted(i)) {
      value const part = sliced(c, x, axis, {start, 1, sizes[i]});
      c.define(i, part.dims, part.node);
    }
    start += static_cast<std::int64_t>(sizes[i]);
  }
}

/// Joins values along one axis; their other dimensions agree.
[[nodiscard]] inline value concatenated(context const& c, std::vector<value> const& parts, std::size_t axis) {
  value result = parts[0];
  if (parts.size() == 1) return result;
  std::vector<std::size_t> inputs;
  // Axis 0 is the batch of the parts: they are joined in their full shape.
  std::size_t const missing = axis > 0 && has_batch(parts[0].dims) ? 1 : 0;
  result.dims[axis] = 0;
  for (auto const& part : parts) {
    shape with_axis_0 = parts[0].dims;
    c.require(part.dims.size() == with_axis_0.size(), "of tensors of different rank");
    with_axis_0[axis] = part.dims[axis];
    c.require(part.dims == with_axis_0,
              "of shapes " + spell(parts[0].dims) + " and " + spell(part.dims) + " that do not agree");
    inputs.push_back(missing ? part.node : c.network().reshape(part.node, part.dims, c.where()));
    result.dims[axis] += part.dims[axis];
  }
  static_cast<void>(count(result.dims, c.where()));
  shape const target(result.dims.begin() + static_cast<std::ptrdiff_t>(missing), result.dims.end());
  auto const node = c.network().add("Concat", std::move(inputs), target,
                                    {{"axis", {static_cast<std::int64_t>(axis - missing)}}}, c.where());
  result.node = c.network().reshape(node, without_batch(result.dims), c.where());
  return result;
}

inline void translate_concat(context& c) {
  std::vector<value> parts;
  for (std::size_t i = 0; i < c.input_count(); ++i) {
    c.require(!c.is_constant(i), "of a constant with computed values is not supported");
    parts.push_back(c.variable(i));
  }
  auto const axis = axis_index(c.attributes().integer("axis", 1), parts.at(0).dims.size(), c.where());
  value const joined = concatenated(c, parts, axis);
  c.define(0, joined.dims, joined.node);
}

/// Constant indices become slices: one where they are evenly spaced, else one per run of neighbours, joined.
inline void translate_gather(context& c) {
  value const x = c.variable(0);
  constant const& chosen = c.known(1);
  c.require(chosen.is_integer(), "needs integer indices");
  auto const axis = axis_index(c.attributes().integer("axis", 0), x.dims.size(), c.where());
  std::vector<std::int64_t> indices = std::get<std::vector<std::int64_t>>(chosen.values);
  c.require(!indices.empty(), "of nothing is not supported");
  for (auto& i : indices) i = static_cast<std::int64_t>(axis_index(i, x.dims[axis], c.where()));

  std::vector<range> runs;
  for (auto const i : indices) {
    if (!runs.empty()) {
      auto& run = runs.back();
      auto const last = run.start + static_cast<std::int64_t>(run.size - 1) * run.step;
      bool const second = run.size == 1;
      if (i > last && (second || i - last == run.step)) {
        run.step = i - last;
        ++run.size;
        continue;
      }
    }
    runs.push_back({i, 1, 1});
  }
  c.require(runs.size() <= 64, "with indices in no regular order is not supported");
  std::vector<value> parts;
  for (auto const& run : runs) parts.push_back(sliced(c, x, axis, run));
  value const joined = concatenated(c, parts, axis);

  shape dims(x.dims.begin(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), chosen.dims.begin(), chosen.dims.end());
  dims.insert(dims.end(), x.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.dims.end());
  c.define(0, dims, joined.node);
}

/// A Pad of nothing vanishes; one with zeros becomes a draft that only a Conv or a pool can take over.
inline void translate_pad(context& c) {
  value const& x = c.variable(0);
  auto pads = c.integers(1, "pads");
  c.require(pads.has_value() && !c.has(3), "without amounts, or with axes, is not supported");
  c.require(pads->size() == 2 * x.dims.size(), "needs two amounts for each of its axes");
  bool const nothing = std::all_of(pads->begin(), pads->end(), [](auto p) { return p == 0; });
  if (nothing) return c.define(0, x.dims, x.node);

  double fill = static_cast<double>(c.attributes().real("value", 0));
  if (c.has(2)) for_each_real(c.known(2), [&](std::size_t, double v) { fill = v; });
  c.require(c.attributes().text("mode", "constant") == "constant" && fill == 0.0,
            "with other values than 0 is not supported");
  std::size_t const rank = x.dims.size();
  c.require(has_batch(x.dims) && (rank == 3 || rank == 4), "is supported on images only");
  shape dims = x.dims;
  for (std::size_t a = 0; a < rank; ++a) {
    auto const before = (*pads)[a], after = (*pads)[rank + a];
    c.require(before >= 0 && after >= 0 && before <= 1 << 20 && after <= 1 << 20,
              "by negative or huge amounts is not supported");
    c.require(a >= 2 || (before == 0 && after == 0), "of other axes than height and width is not supported");
    dims[a] += static_cast<std::size_t>(before + after);
  }
  bool const flat = rank == 3;  // one spatial axis: height 1
  std::vector<std::int64_t> const pad = {flat ? 0 : (*pads)[2], (*pads)[rank - 1], flat ? 0 : (*pads)[rank + 2],
                                         (*pads)[2 * rank - 1]};
  c.define(0, dims, c.network().add("Pad", {x.node}, without_batch(dims), {{"pad", pad}}, c.where()));
}

}  // namespace hull::io::onnx_reader
