// SPDX-License-Identifier: Apache-2.0
// Tensors whose numbers are known when the file is read: weights, shapes, and what is computed from them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/model.hpp>
#include <hull/io/onnx/proto.hpp>
#include <hull/io/onnx/shapes.hpp>

namespace hull::io::onnx_reader {

static_assert(std::endian::native == std::endian::little, "hull: raw tensors are read as little-endian");

/// Every real type of ONNX fits in float or double, every integer type and bool in int64.
using element_list = std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>>;

struct constant {
  shape dims;            // as in the file
  element_list values;   // [product of dims]
  bool rounded = false;  // some value is the result of inexact arithmetic
  std::string name;      // of the ONNX tensor, for messages

  [[nodiscard]] std::size_t size() const {
    return std::visit([](auto const& v) { return v.size(); }, values);
  }
  [[nodiscard]] bool is_integer() const { return std::holds_alternative<std::vector<std::int64_t>>(values); }
};

/// Calls f(i, value) with each value as double. 64-bit integers may lose digits.
template <class F>
void for_each_real(constant const& c, F f) {
  std::visit(
      [&](auto const& v) {
        for (std::size_t i = 0; i < v.size(); ++i) f(i, static_cast<double>(v[i]));
      },
      c.values);
}

[[nodiscard]] inline std::vector<double> as_reals(constant const& c) {
  std::vector<double> result(c.size());
  for_each_real(c, [&](std::size_t i, double x) { result[i] = x; });
  return result;
}

/// The nearest floats as a parameter of shape `target`. Refuses NaN and infinity. Consumes `c`: weights can be large.
[[nodiscard]] inline tensor as_parameter(constant&& c, shape target, std::string const& where) {
  tensor result{std::move(target), {}, c.rounded};
  auto const check = [&](bool finite) {  // builds the message only when it is needed: weights are many
    if (!finite) throw error(where + ": tensor " + in_quotes(c.name) + " has a value that is not a finite float");
  };
  if (auto* floats = std::get_if<std::vector<float>>(&c.values)) {
    for (float const x : *floats) check(std::isfinite(x));
    result.values = std::move(*floats);
    return result;
  }
  result.values.resize(c.size());
  for_each_real(c, [&](std::size_t i, double x) {
    auto const limit = static_cast<double>(std::numeric_limits<float>::max());
    check(std::abs(x) <= limit);
    auto const nearest = static_cast<float>(x);
    result.rounded = result.rounded || static_cast<double>(nearest) != x;
    result.values[i] = nearest;
  });
  // Above 2^53 the step by way of double may already have lost digits.
  if (auto const* integers = std::get_if<std::vector<std::int64_t>>(&c.values)) {
    for (auto const x : *integers) result.rounded = result.rounded || std::abs(static_cast<double>(x)) > 0x1p53;
  }
  return result;
}

/// The float with the bits of an IEEE half.
[[nodiscard]] inline float from_half(std::uint16_t bits) {
  int const exponent = (bits >> 10) & 0x1f;
  auto const mantissa = static_cast<float>(bits & 0x3ff);
  float magnitude = 0;
  if (exponent == 0) {
    magnitude = std::ldexp(mantissa, -24);
  } else if (exponent == 31) {
    magnitude = mantissa == 0.0f ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  } else {
    magnitude = std::ldexp(mantissa + 1024.0f, exponent - 25);
  }
  return (bits & 0x8000) ? -magnitude : magnitude;
}

[[nodiscard]] inline float from_bfloat16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Reads `n` elements of type Raw, from the packed bytes if there are any and else from the typed list.
template <class Value, class Raw, class List, class Convert>
[[nodiscard]] std::vector<Value> read_elements(tensor_proto const& proto, List const& list, std::size_t n,
                                               std::string const& where, Convert convert) {
  std::string const& bytes = proto.raw_data();
  bool const packed = !bytes.empty();
  std::size_t const found = packed ? bytes.size() : static_cast<std::size_t>(list.size());
  std::size_t const expected = packed ? n * sizeof(Raw) : n;
  expect(found == expected, where + ": tensor " + in_quotes(proto.name()) + " holds " + std::to_string(found) +
                                (packed ? " bytes" : " values") + ", its shape needs " + std::to_string(expected));
  std::vector<Value> result(n);
  if (!packed) {
    for (std::size_t i = 0; i < n; ++i) result[i] = convert(static_cast<Raw>(list[static_cast<int>(i)]));
  } else if constexpr (std::is_same_v<Value, Raw>) {
    if (n > 0) std::memcpy(result.data(), bytes.data(), bytes.size());
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      Raw raw{};
      std::memcpy(&raw, bytes.data() + i * sizeof(Raw), sizeof(Raw));
      result[i] = convert(raw);
    }
  }
  return result;
}

/// A tensor of the file. Refuses strings, complex numbers and data outside the file.
[[nodiscard]] inline constant decode(tensor_proto const& proto, std::string const& where) {
  auto const fail = [&](std::string const& sentence) {
    throw error(where + ": tensor " + in_quotes(proto.name()) + ' ' + sentence);
  };
  if (proto.data_location() == tensor_proto::EXTERNAL || proto.external_data_size() > 0) {
    fail("is stored outside the file; save the model with its weights inside");
  }
  if (proto.has_segment()) fail("is stored in segments, which is not supported");

  constant result;
  result.name = proto.name();
  for (auto const d : proto.dims()) {
    if (d < 0) fail("has a negative dimension");
    result.dims.push_back(static_cast<std::size_t>(d));
  }
  std::size_t const n = count(result.dims, where + ": tensor " + in_quotes(proto.name()));
  auto const same = [](auto x) { return x; };
  auto const integer = [](auto x) { return static_cast<std::int64_t>(x); };
  auto const integers = [&]<class Raw>(Raw, auto const& list) {
    result.values = read_elements<std::int64_t, Raw>(proto, list, n, where, integer);
  };
  switch (proto.data_type()) {
    case tensor_proto::FLOAT:
      result.values = read_elements<float, float>(proto, proto.float_data(), n, where, same);
      break;
    case tensor_proto::DOUBLE:
      result.values = read_elements<double, double>(proto, proto.double_data(), n, where, same);
      break;
    case tensor_proto::FLOAT16:
      result.values = read_elements<float, std::uint16_t>(proto, proto.int32_data(), n, where, from_half);
      break;
    case tensor_proto::BFLOAT16:
      result.values = read_elements<float, std::uint16_t>(proto, proto.int32_data(), n, where, from_bfloat16);
      break;
    case tensor_proto::INT64:
      integers(std::int64_t{}, proto.int64_data());
      break;
    case tensor_proto::INT32:
      integers(std::int32_t{}, proto.int32_data());
      break;
    case tensor_proto::INT16:
      integers(std::int16_t{}, proto.int32_data());
      break;
    case tensor_proto::INT8:
      integers(std::int8_t{}, proto.int32_data());
      break;
    case tensor_proto::UINT8:
      integers(std::uint8_t{}, proto.int32_data());
      break;
    case tensor_proto::UINT16:
      integers(std::uint16_t{}, proto.int32_data());
      break;
    case tensor_proto::UINT32:
      integers(std::uint32_t{}, proto.uint64_data());
      break;
    case tensor_proto::BOOL:
      integers(std::uint8_t{}, proto.int32_data());
      break;
    default:
      fail("has element type " + std::to_string(proto.data_type()) + ", which is not supported");
  }
  return result;
}

/// For each output axis, what each coordinate adds to the position in the input: covers every operator that only moves
/// elements.
using offset_table = std::vector<std::vector<std::size_t>>;

/// Calls f(output position, input position) for every output element in order.
template <class F>
void for_each_offset(offset_table const& table, std::size_t base, F f) {
  std::size_t total = 1;
  for (auto const& axis : table) total *= axis.size();
  if (total == 0) return;
  if (table.empty()) return f(std::size_t{0}, base);
  auto const& inner = table.back();
  std::vector<std::size_t> at(table.size() - 1, 0);
  for (std::size_t out = 0; out < total;) {
    std::size_t from = base;
    for (std::size_t a = 0; a < at.size(); ++a) from += table[a][at[a]];
    for (auto const offset : inner) f(out++, from + offset);
    for (std::size_t a = at.size(); a-- > 0;) {
      if (++at[a] < table[a].size()) break;
      at[a] = 0;
    }
  }
}

/// The constant of shape `dims` whose elements `table` picks from `c`.
[[nodiscard]] inline constant pick(constant const& c, shape dims, offset_table const& table) {
  constant result{std::move(dims), {}, c.rounded, c.name};
  std::size_t total = 1;
  for (auto const& axis : table) total *= axis.size();
  std::visit(
      [&](auto const& from) {
        std::remove_cvref_t<decltype(from)> to(total);
        for_each_offset(table, 0, [&](std::size_t out, std::size_t in) { to[out] = from[in]; });
        result.values = std::move(to);
      },
      c.values);
  return result;
}

/// The transpose of a constant matrix, tile by tile: weights can be far larger than the caches.
[[nodiscard]] inline constant transposed(constant const& c) {
  std::size_t const rows = c.dims[0], columns = c.dims[1], tile = 32;
  constant result{{columns, rows}, {}, c.rounded, c.name};
  std::visit(
      [&](auto const& from) {
        std::remove_cvref_t<decltype(from)> to(from.size());
        for (std::size_t top = 0; top < rows; top += tile) {
          for (std::size_t left = 0; left < columns; left += tile) {
            for (std::size_t i = top; i < std::min(rows, top + tile); ++i) {
              for (std::size_t j = left; j < std::min(columns, left + tile); ++j)
                to[j * rows + i] = from[i * columns + j];
            }
          }
        }
        result.values = std::move(to);
      },
      c.values);
  return result;
}

/// The table that repeats a tensor of shape `dims` to the broadcast shape `target`.
[[nodiscard]] inline offset_table broadcast_table(shape const& dims, shape const& target) {
  offset_table table;
  auto const step = strides(dims);
  for (std::size_t a = 0; a < target.size(); ++a) {
    std::vector<std::size_t> offsets(target[a], 0);
    std::size_t const missing = target.size() - dims.size();
    if (a >= missing && dims[a - missing] != 1) {
      for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = i * step[a - missing];
    }
    table.push_back(std::move(offsets));
  }
  return table;
}

}  // namespace hull::io::onnx_reader
