// SPDX-License-Identifier: Apache-2.0
// Whole files as strings, gunzipped on the way if they are gzip files.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <zlib.h>

#include <hull/core/error.hpp>

namespace hull::io {

/// Files that are larger than this, on disk or once unpacked, are refused: a small gzip file can hold petabytes.
inline constexpr std::uint64_t largest_file = std::uint64_t{4} << 30;

namespace detail {

inline void expect_size(std::uint64_t bytes, std::uint64_t limit, std::string const& name) {
  expect(bytes <= limit, name + ": is larger than the limit of " + std::to_string(limit) + " bytes");
}

/// The path itself, or `path`.gz if only that exists.
inline std::filesystem::path resolve(std::filesystem::path const& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    auto zipped = path;
    zipped += ".gz";
    if (std::filesystem::exists(zipped, ignored)) return zipped;
  }
  return path;
}

/// Reads block by block and not by the size of the file, so that pipes can be read as well.
inline std::string read_bytes(std::filesystem::path const& path, std::uint64_t limit) {
  auto const name = path.string();
  std::error_code ignored;
  expect(std::filesystem::exists(path, ignored), name + ": no such file");
  expect(!std::filesystem::is_directory(path, ignored), name + ": is a folder, expected a file");

  errno = 0;
  std::ifstream file(path, std::ios::binary);
  expect(file.is_open(), name + ": cannot be opened: " + std::strerror(errno));

  std::string bytes;
  if (std::filesystem::is_regular_file(path, ignored)) {
    auto const size = std::filesystem::file_size(path, ignored);
    expect_size(size, limit, name);
    bytes.reserve(static_cast<std::size_t>(size));
  }

  std::string block(std::size_t{1} << 18, '\0');
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    bytes.append(block, 0, static_cast<std::size_t>(file.gcount()));
    expect_size(bytes.size(), limit, name);
  }
  expect(file.eof(), name + ": cannot be read to its end");
  return bytes;
}

/// Owns zlib's state.
class inflater {
 public:
  explicit inflater(std::string_view packed) : packed_(packed) {
    constexpr int gzip_only = 16 + MAX_WBITS;
    expect(inflateInit2(&stream_, gzip_only) == Z_OK, "zlib: cannot be started");
  }
  inflater(inflater const&) = delete;
  inflater& operator=(inflater const&) = delete;
  ~inflater() { inflateEnd(&stream_); }

  /// Unpacks as much as fits into `room`; returns zlib's status and leaves the number of bytes in `written`.
  int next(std::string& room, std::size_t& written) {
    if (stream_.avail_in == 0) refill();
    stream_.next_out = reinterpret_cast<Bytef*>(room.data());
    stream_.avail_out = static_cast<uInt>(room.size());
    int const status = inflate(&stream_, Z_NO_FLUSH);
    written = room.size() - stream_.avail_out;
    return status;
  }

  [[nodiscard]] bool drained() const { return stream_.avail_in == 0 && packed_.empty(); }

  /// gzip files may be concatenated: starts the next member.
  void restart() { inflateReset(&stream_); }

 private:
  void refill() {  // zlib counts input in 32 bits
    auto const part = packed_.substr(0, std::size_t{1} << 30);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
    stream_.avail_in = static_cast<uInt>(part.size());
    packed_.remove_prefix(part.size());
  }

  z_stream stream_{};
  std::string_view packed_;
};

}  // namespace detail

/// True if `bytes` starts as a gzip file does.
[[nodiscard]] inline bool is_gzip(std::string_view bytes) { return bytes.substr(0, 2) == "\x1f\x8b"; }

/// The content of the gzip file `packed`, all its members in a row; `name` is for messages.
/// Throws hull::error if it is truncated or corrupt, or unpacks to more than `limit` bytes. Cost: linear.
[[nodiscard]] inline std::string gunzip(std::string_view packed, std::string const& name,
                                        std::uint64_t limit = largest_file) {
  detail::inflater source(packed);
  std::string bytes;
  std::string room(std::size_t{1} << 18, '\0');
  while (true) {
    std::size_t written = 0;
    int const status = source.next(room, written);
    bytes.append(room, 0, written);
    detail::expect_size(bytes.size(), limit, name);
    if (status == Z_STREAM_END) {
      if (source.drained()) return bytes;
      source.restart();
    } else {
      expect(status != Z_MEM_ERROR, name + ": not enough memory to unpack it");
      bool const starved = status == Z_BUF_ERROR || (status == Z_OK && written == 0 && source.drained());
      expect(!starved, name + ": truncated gzip file, it ends in the middle of its data");
      expect(status == Z_OK, name + ": corrupt gzip file, it cannot be unpacked");
    }
  }
}

/// The whole file, unpacked if its content is gzip whatever its name says. Where `path` is missing, `path`.gz is read:
/// VNN-COMP lists its files without that ending. Throws hull::error, one line that starts with the path, if there is
/// no such file, it is a folder, cannot be read, is a broken gzip file or exceeds `limit` bytes. Cost: linear.
[[nodiscard]] inline std::string read_file(std::filesystem::path const& path, std::uint64_t limit = largest_file) {
  auto const found = detail::resolve(path);
  auto bytes = detail::read_bytes(found, limit);
  return is_gzip(bytes) ? gunzip(bytes, found.string(), limit) : bytes;
}

}  // namespace hull::io
