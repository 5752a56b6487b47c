// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <unistd.h>
#include <zlib.h>

#include <hull/core/error.hpp>
#include <hull/io/file.hpp>

namespace {

namespace fs = std::filesystem;

/// A folder that is gone when the test ends.
class scratch_folder {
 public:
  scratch_folder() : path_(fs::temp_directory_path() / ("hull_test_file_" + std::to_string(getpid()))) {
    fs::create_directories(path_);
  }
  scratch_folder(scratch_folder const&) = delete;
  scratch_folder& operator=(scratch_folder const&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  [[nodiscard]] fs::path write(std::string const& name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }
  [[nodiscard]] fs::path operator/(std::string const& name) const { return path_ / name; }
  [[nodiscard]] fs::path const& path() const { return path_; }

 private:
  fs::path path_;
};

std::string gzip(std::string text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, static_cast<uLong>(text.size())) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(text.data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

/// What the error says behind the path.
template <class Function>
std::string complaint(Function&& function, std::string const& name) {
  try {
    function();
  } catch (hull::error const& e) {
    std::string const what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    CHECK(e.kind() == hull::fault::input);
    REQUIRE(what.substr(0, name.size() + 2) == name + ": ");
    return what.substr(name.size() + 2);
  }
  return "no error";
}

std::string read_complaint(fs::path const& path) {
  return complaint([&] { (void)hull::io::read_file(path); }, path.string());
}

}  // namespace

TEST_CASE("plain and packed files read alike") {
  scratch_folder const folder;
  std::string const text("one\r\ntwo\0three\xff", 15);
  CHECK(hull::io::read_file(folder.write("plain", text)) == text);
  CHECK(hull::io::read_file(folder.write("packed.gz", gzip(text))) == text);
  CHECK(hull::io::read_file(folder.write("packed_without_ending", gzip(text))) == text);
  CHECK(hull::io::read_file(folder.write("empty", "")).empty());
  CHECK(hull::io::read_file(folder.write("packed_empty", gzip(""))).empty());
}

TEST_CASE("a name without .gz finds the packed file, but the plain one wins") {
  scratch_folder const folder;
  (void)folder.write("spec.vnnlib.gz", gzip("packed"));
  CHECK(hull::io::read_file(folder / "spec.vnnlib") == "packed");
  (void)folder.write("spec.vnnlib", "plain");
  CHECK(hull::io::read_file(folder / "spec.vnnlib") == "plain");
}

TEST_CASE("files larger than one block, and gzip files of several members") {
  scratch_folder const folder;
  std::string large;
  for (int i = 0; i < 200'000; ++i) large += std::to_string(i) + "\n";
  CHECK(hull::io::read_file(folder.write("large", large)) == large);
  CHECK(hull::io::read_file(folder.write("large.gz", gzip(large))) == large);
  CHECK(hull::io::read_file(folder.write("two.gz", gzip(large) + gzip("") + gzip("end"))) == large + "end");
}

TEST_CASE("what cannot be read is refused in one line") {
  scratch_folder const folder;
  CHECK(read_complaint(folder / "missing") == "no such file");
  CHECK(read_complaint(folder.path()) == "is a folder, expected a file");

  auto const packed = gzip("some text that is long enough to be cut in the middle");
  std::string const truncated = "truncated gzip file, it ends in the middle of its data";
  for (std::size_t length = 2; length < packed.size(); ++length) {
    CAPTURE(length);
    CHECK(read_complaint(folder.write("cut.gz", packed.substr(0, length))) == truncated);
  }
  std::string const corrupt = "corrupt gzip file, it cannot be unpacked";
  auto damaged = packed;
  damaged[packed.size() - 6] = static_cast<char>(~damaged[packed.size() - 6]);  // in the checksum
  CHECK(read_complaint(folder.write("sum.gz", damaged)) == corrupt);
  CHECK(read_complaint(folder.write("tail.gz", packed + "not gzip")) == corrupt);
}

TEST_CASE("sizes are limited on disk and unpacked") {
  scratch_folder const folder;
  std::string const zeros(3'000'000, '\0');
  auto const plain = folder.write("plain", zeros);
  auto const bomb = folder.write("bomb.gz", gzip(zeros));
  REQUIRE(fs::file_size(bomb) < 30'000);
  std::string const large = "is larger than the limit of 100000 bytes";
  CHECK(complaint([&] { (void)hull::io::read_file(plain, 100'000); }, plain.string()) == large);
  CHECK(complaint([&] { (void)hull::io::read_file(bomb, 100'000); }, bomb.string()) == large);
  CHECK(hull::io::read_file(bomb, 3'000'000).size() == 3'000'000);
}
