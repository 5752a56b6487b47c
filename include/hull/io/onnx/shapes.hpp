// SPDX-License-Identifier: Apache-2.0
// Arithmetic on the shapes of ONNX tensors, which include the batch dimension. Shared by constants and variables.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/model.hpp>

namespace hull::io::onnx_reader {

/// No tensor of a network may have more elements; it also keeps every product of dimensions inside 64 bits.
inline constexpr std::size_t most_elements = std::size_t{1} << 31;

[[nodiscard]] inline std::string spell(shape const& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

/// An empty tensor may have other dimensions, but not large ones.
inline constexpr std::size_t most_beside_empty = std::size_t{1} << 16;

/// The number of elements. Throws, with `where`, when it is above `most_elements`.
[[nodiscard]] inline std::size_t count(shape const& dims, std::string const& where) {
  bool const empty = std::find(dims.begin(), dims.end(), std::size_t{0}) != dims.end();
  std::size_t const most = empty ? most_beside_empty : most_elements;
  std::size_t product = 1;
  for (auto const d : dims) {
    if (d == 0) continue;
    expect(d <= most && product <= most / d, where + ": shape " + spell(dims) + " is too large");
    product *= d;
  }
  return empty ? 0 : product;
}

/// The shape a network node has for an ONNX tensor: without a leading 1, the batch, unless that is all there is.
/// A single number is [1].
[[nodiscard]] inline shape without_batch(shape const& dims) {
  if (dims.empty()) return {1};
  if (dims.size() > 1 && dims[0] == 1) return {dims.begin() + 1, dims.end()};
  return dims;
}

[[nodiscard]] inline bool has_batch(shape const& dims) { return dims.size() > 1 && dims[0] == 1; }

/// Strides of a row-major tensor, in elements.
[[nodiscard]] inline std::vector<std::size_t> strides(shape const& dims) {
  std::vector<std::size_t> result(dims.size(), 1);
  for (std::size_t a = dims.size(); a-- > 1;) result[a - 1] = result[a] * dims[a];
  return result;
}

/// An axis counted from 0; ONNX counts negative ones from the end.
[[nodiscard]] inline std::size_t axis_index(std::int64_t axis, std::size_t rank, std::string const& where) {
  auto const n = static_cast<std::int64_t>(rank);
  expect(axis >= -n && axis < n,
         where + ": axis " + std::to_string(axis) + " does not exist in a tensor of rank " + std::to_string(rank));
  return static_cast<std::size_t>(axis < 0 ? axis + n : axis);
}

/// NumPy broadcasting of two shapes.
[[nodiscard]] inline shape broadcast(shape const& a, shape const& b, std::string const& where) {
  shape result(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < result.size(); ++i) {
    auto const from_end = [i](shape const& s) { return i < s.size() ? s[s.size() - 1 - i] : std::size_t{1}; };
    auto const x = from_end(a), y = from_end(b);
    expect(x == y || x == 1 || y == 1, where + ": shapes " + spell(a) + " and " + spell(b) + " do not agree");
    result[result.size() - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

/// What a Reshape asks for: 0 copies a dimension (unless `allow_zero`), one -1 is inferred.
[[nodiscard]] inline shape reshaped(shape const& dims, std::vector<std::int64_t> const& request, bool allow_zero,
                                    std::string const& where) {
  std::size_t const total = count(dims, where);
  shape result;
  std::size_t inferred = request.size();
  for (std::size_t i = 0; i < request.size(); ++i) {
    auto const d = request[i];
    expect(d >= -1, where + ": negative dimension " + std::to_string(d));
    if (d == -1) {
      expect(inferred == request.size(), where + ": more than one dimension is -1");
      inferred = i;
      result.push_back(1);
    } else if (d == 0 && !allow_zero) {
      expect(i < dims.size(), where + ": dimension " + std::to_string(i) + " to copy does not exist");
      result.push_back(dims[i]);
    } else {
      result.push_back(static_cast<std::size_t>(d));
    }
  }
  std::size_t const others = count(result, where);
  if (inferred < request.size() && others != 0) result[inferred] = total / others;
  expect(count(result, where) == total, where + ": cannot reshape " + spell(dims) + " to " + spell(result));
  return result;
}

/// `dims` without the axes listed, or without every 1 if `axes` is empty.
[[nodiscard]] inline shape squeezed(shape const& dims, std::vector<std::int64_t> const& axes,
                                    std::string const& where) {
  std::vector<bool> drop(dims.size(), false);
  for (std::size_t a = 0; a < dims.size(); ++a) drop[a] = axes.empty() && dims[a] == 1;
  for (auto const axis : axes) {
    auto const a = axis_index(axis, dims.size(), where);
    expect(dims[a] == 1, where + ": cannot squeeze axis " + std::to_string(a) + " of " + spell(dims));
    drop[a] = true;
  }
  shape result;
  for (std::size_t a = 0; a < dims.size(); ++a) {
    if (!drop[a]) result.push_back(dims[a]);
  }
  return result;
}

/// `dims` with a 1 at each of the axes, which are counted in the result.
[[nodiscard]] inline shape unsqueezed(shape const& dims, std::vector<std::int64_t> const& axes,
                                      std::string const& where) {
  std::size_t const rank = dims.size() + axes.size();
  std::vector<bool> is_new(rank, false);
  for (auto const axis : axes) {
    auto const a = axis_index(axis, rank, where);
    expect(!is_new[a], where + ": axis " + std::to_string(a) + " is listed twice");
    is_new[a] = true;
  }
  shape result;
  for (std::size_t a = 0, from = 0; a < rank; ++a) result.push_back(is_new[a] ? 1 : dims[from++]);
  return result;
}

/// [product of the axes before `axis`, product of the others].
[[nodiscard]] inline shape flattened(shape const& dims, std::int64_t axis, std::string const& where) {
  auto const rank = static_cast<std::int64_t>(dims.size());
  expect(axis >= -rank && axis <= rank, where + ": axis " + std::to_string(axis) + " does not exist");
  auto const split = dims.begin() + (axis < 0 ? axis + rank : axis);
  return {count({dims.begin(), split}, where), count({split, dims.end()}, where)};
}

/// The permutation of a Transpose; none given means reversal.
[[nodiscard]] inline std::vector<std::size_t> permutation(std::vector<std::int64_t> const& perm, bool given,
                                                          std::size_t rank, std::string const& where) {
  std::vector<std::size_t> result;
  if (!given) {
    for (std::size_t a = rank; a-- > 0;) result.push_back(a);
    return result;
  }
  expect(perm.size() == rank,
         where + ": perm has " + std::to_string(perm.size()) + " axes, its input has " + std::to_string(rank));
  std::vector<bool> seen(rank, false);
  for (auto const p : perm) {
    auto const a = axis_index(p, rank, where);
    expect(!seen[a], where + ": perm lists axis " + std::to_string(a) + " twice");
    seen[a] = true;
    result.push_back(a);
  }
  return result;
}

/// Part of one axis: indices start, start + step, ..., `size` of them.
struct range {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::size_t size = 0;
};

/// ONNX Slice on an axis of `extent` elements: negative positions count from the end, others are clamped.
[[nodiscard]] inline range slice_range(std::int64_t start, std::int64_t end, std::int64_t step, std::size_t extent,
                                       std::string const& where) {
  auto const n = static_cast<std::int64_t>(extent);
  auto const big = std::numeric_limits<std::int64_t>::max();
  expect(step != 0 && step > -big, where + ": step of a slice is 0 or too large");
  if (start < 0) start += n;
  if (end < 0) end += n;
  if (step > 0) {
    start = std::clamp<std::int64_t>(start, 0, n);
    end = std::clamp<std::int64_t>(end, 0, n);
    auto const span = end - start;
    return {start, step, span > 0 ? static_cast<std::size_t>((span - 1) / step + 1) : 0};
  }
  if (n == 0) return {0, step, 0};
  start = std::clamp<std::int64_t>(start, 0, n - 1);  // backwards, what lies before the axis is its first element
  end = std::clamp<std::int64_t>(end, -1, n - 1);
  auto const span = start - end;
  return {start, step, span > 0 ? static_cast<std::size_t>((span - 1) / -step + 1) : 0};
}

/// The sizes of the parts of a Split along an axis of `extent` elements.
[[nodiscard]] inline std::vector<std::size_t> split_sizes(std::vector<std::int64_t> const& given, std::size_t parts,
                                                          std::size_t extent, std::string const& where) {
  std::vector<std::size_t> result;
  if (given.empty()) {  // equal parts, the last one may be smaller
    expect(parts > 0, where + ": no parts");
    std::size_t const each = (extent + parts - 1) / parts;
    for (std::size_t i = 0; i < parts; ++i) result.push_back(std::min(each, extent - std::min(extent, i * each)));
  } else {
    for (auto const s : given) {
      expect(s >= 0, where + ": negative size of a part");
      result.push_back(static_cast<std::size_t>(s));
    }
  }
  std::size_t rest = extent;
  for (auto const s : result) {
    expect(s <= rest, where + ": the parts are larger than the axis");
    rest -= s;
  }
  expect(rest == 0 && result.size() == parts, where + ": the parts do not add up to the axis");
  return result;
}

}  // namespace hull::io::onnx_reader
