// SPDX-License-Identifier: Apache-2.0
// The parameters of a network as a binary file.
//
//   8 bytes   "hullpars"
//   u32       version, 1
//   u32       number of tensors, then for each, in order of their names:
//     u32, bytes   length of the name, name
//     u32          flags; bit 0: some value was rounded to float
//     u32, u64...  rank, dimensions
//     f32...       the values, row major
// All numbers are little-endian; nothing follows the last tensor.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/model.hpp>
#include <hull/net/parameters.hpp>

namespace hull::io {

namespace parameters_format {

static_assert(std::endian::native == std::endian::little, "hull: parameter files are written as memory holds them");

inline constexpr std::string_view magic = "hullpars";
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint32_t rounded_flag = 1;
inline constexpr std::uint32_t longest_name = 1024;
inline constexpr std::uint32_t highest_rank = 16;
inline constexpr std::uint64_t most_values = std::uint64_t{1} << 33;

template <class Number>
void put(std::ostream& out, Number x) {
  out.write(reinterpret_cast<char const*>(&x), sizeof x);
}

/// A stream of which every read is checked.
class reader {
 public:
  reader(std::istream& in, std::string source) : in_(in), source_(std::move(source)) {}

  [[noreturn]] void refuse(std::string const& sentence) const { throw error(source_ + ": " + sentence); }

  void bytes(char* to, std::size_t n) {
    in_.read(to, static_cast<std::streamsize>(n));
    if (in_.gcount() != static_cast<std::streamsize>(n)) refuse("ends too early; it is damaged");
  }

  template <class Number>
  [[nodiscard]] Number number() {
    Number x{};
    bytes(reinterpret_cast<char*>(&x), sizeof x);
    return x;
  }

  /// Grows block by block, so that a wrong size in a short file does not ask for memory.
  [[nodiscard]] std::vector<float> floats(std::uint64_t n, std::string const& name) {
    std::vector<float> values;
    while (values.size() < n) {
      std::size_t const from = values.size();
      std::size_t const block =
          static_cast<std::size_t>(std::min<std::uint64_t>(n - from, std::max<std::size_t>(from, 1u << 16)));
      values.resize(from + block);
      bytes(reinterpret_cast<char*>(values.data() + from), block * sizeof(float));
    }
    for (float const x : values) {
      if (!std::isfinite(x)) refuse("tensor " + name + " has a value that is not finite");
    }
    return values;
  }

  [[nodiscard]] bool at_end() { return in_.peek() == std::istream::traits_type::eof(); }

 private:
  std::istream& in_;
  std::string source_;
};

}  // namespace parameters_format

inline void write_parameters(std::ostream& out, std::map<std::string, tensor> const& parameters) {
  using namespace parameters_format;
  out.write(magic.data(), static_cast<std::streamsize>(magic.size()));
  put(out, version);
  put(out, static_cast<std::uint32_t>(parameters.size()));
  for (auto const& [name, t] : parameters) {
    std::uint64_t size = 1;
    for (auto const d : t.shape) size *= d;
    expect(size == t.values.size(), "hull::io: parameter " + name + " does not fill its shape");
    expect(name.size() <= longest_name && t.shape.size() <= highest_rank,
           "hull::io: parameter " + name + " has a name or rank too long");
    put(out, static_cast<std::uint32_t>(name.size()));
    out.write(name.data(), static_cast<std::streamsize>(name.size()));
    put(out, t.rounded ? rounded_flag : std::uint32_t{0});
    put(out, static_cast<std::uint32_t>(t.shape.size()));
    for (auto const d : t.shape) put(out, static_cast<std::uint64_t>(d));
    out.write(reinterpret_cast<char const*>(t.values.data()),
              static_cast<std::streamsize>(t.values.size() * sizeof(float)));
  }
}

/// Throws hull::error, with `source` in front, unless the stream holds one whole parameter file with finite values.
[[nodiscard]] inline std::map<std::string, tensor> read_parameters(std::istream& in, std::string const& source) {
  using namespace parameters_format;
  reader file(in, source);
  std::array<char, magic.size()> start{};
  file.bytes(start.data(), start.size());
  if (std::string_view(start.data(), start.size()) != magic) file.refuse("is not a parameter file of hull");
  auto const found = file.number<std::uint32_t>();
  if (found != version) {
    file.refuse("has version " + std::to_string(found) + ", expected " + std::to_string(version));
  }
  std::map<std::string, tensor> parameters;
  auto const tensors = file.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < tensors; ++i) {
    auto const length = file.number<std::uint32_t>();
    if (length > longest_name) file.refuse("has a name that is too long; it is damaged");
    std::string name(length, '\0');
    file.bytes(name.data(), length);
    auto const flags = file.number<std::uint32_t>();
    auto const rank = file.number<std::uint32_t>();
    if (flags > rounded_flag || rank > highest_rank) file.refuse("has bad flags or rank; it is damaged");
    tensor t;
    t.rounded = flags == rounded_flag;
    std::uint64_t size = 1;
    for (std::uint32_t a = 0; a < rank; ++a) {
      auto const d = file.number<std::uint64_t>();
      if (d > most_values || size * d > most_values) file.refuse("has a tensor that is too large; it is damaged");
      size *= d;
      t.shape.push_back(static_cast<std::size_t>(d));
    }
    t.values = file.floats(size, "number " + std::to_string(i));
    if (!parameters.emplace(std::move(name), std::move(t)).second) file.refuse("has a tensor twice; it is damaged");
  }
  if (!file.at_end()) file.refuse("goes on after its last tensor; it is damaged");
  return parameters;
}

/// Writes the file under another name first, so that nobody ever reads half of it.
inline void save_parameters(std::filesystem::path const& path, std::map<std::string, tensor> const& parameters) {
  auto part = path;
  part += ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  expect(out.is_open(), path.string() + ": cannot be written");
  write_parameters(out, parameters);
  out.close();
  expect(out.good(), path.string() + ": cannot be written");
  std::error_code failure;
  std::filesystem::rename(part, path, failure);
  expect(!failure, path.string() + ": cannot be written: " + failure.message());
}

[[nodiscard]] inline std::map<std::string, tensor> load_parameters(std::filesystem::path const& path) {
  std::ifstream in(path, std::ios::binary);
  expect(in.is_open(), path.string() + ": cannot be read");
  return read_parameters(in, path.string());
}

/// The tensors as a source of parameters<Net>; borrows them. Empty for a key that is not there.
[[nodiscard]] inline auto source_of(std::map<std::string, tensor> const& tensors) {
  return [&tensors](std::string const& key) -> parameter_values {
    auto const found = tensors.find(key);
    if (found == tensors.end()) return {};
    return {found->second.values, found->second.rounded};
  };
}

}  // namespace hull::io
