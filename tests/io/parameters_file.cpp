// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <limits>
#include <map>
#include <sstream>
#include <string>

#include <hull/io/parameters_file.hpp>

using hull::io::read_parameters;
using hull::io::write_parameters;
using parameters = std::map<std::string, hull::io::tensor>;

namespace {

parameters example() {
  parameters p;
  p["fc1.weight"] = {{2, 3}, {1, 2, 3, 4, 5, -0.0f}, false};
  p["fc1.bias"] = {{2}, {0.1f, std::numeric_limits<float>::denorm_min()}, true};
  p["leaky_relu1.alpha"] = {{1}, {0.25f}, false};
  return p;
}

std::string packed(parameters const& p) {
  std::ostringstream out;
  write_parameters(out, p);
  return out.str();
}

parameters unpacked(std::string const& bytes) {
  std::istringstream in(bytes);
  return read_parameters(in, "net.params");
}

std::string refusal(std::string const& bytes) {
  try {
    static_cast<void>(unpacked(bytes));
    return "accepted";
  } catch (hull::error const& e) {
    return e.what();
  }
}

void check_equal(parameters const& a, parameters const& b) {
  REQUIRE(a.size() == b.size());
  for (auto const& [name, t] : a) {
    REQUIRE(b.contains(name));
    CHECK(b.at(name).shape == t.shape);
    CHECK(b.at(name).values == t.values);
    CHECK(b.at(name).rounded == t.rounded);
  }
}

}  // namespace

TEST_CASE("parameter file: what is written is read") {
  check_equal(unpacked(packed(example())), example());
  check_equal(unpacked(packed({})), {});
}

TEST_CASE("parameter file: on disk") {
  auto const path = std::filesystem::temp_directory_path() / "hull_parameters_file_test.bin";
  hull::io::save_parameters(path, example());
  check_equal(hull::io::load_parameters(path), example());
  std::filesystem::remove(path);
  CHECK_THROWS_AS(static_cast<void>(hull::io::load_parameters(path)), hull::error);
}

TEST_CASE("parameter file: every shortened file is refused") {
  std::string const whole = packed(example());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CHECK(refusal(whole.substr(0, n)) == "net.params: ends too early; it is damaged");
  }
  CHECK(refusal(whole + "x") == "net.params: goes on after its last tensor; it is damaged");
}

TEST_CASE("parameter file: damage is refused in one line") {
  std::string bytes = packed(example());
  SUBCASE("magic") {
    bytes[0] = 'X';
    CHECK(refusal(bytes) == "net.params: is not a parameter file of hull");
  }
  SUBCASE("version") {
    bytes[8] = 9;
    CHECK(refusal(bytes) == "net.params: has version 9, expected 1");
  }
  SUBCASE("a huge dimension asks for no memory") {
    parameters one;
    one["a"] = {{1}, {1}, false};
    bytes = packed(one);
    bytes[bytes.size() - 5] = 0x7f;  // highest byte of the only dimension
    CHECK(refusal(bytes) == "net.params: has a tensor that is too large; it is damaged");
    bytes[bytes.size() - 5] = 0;
    bytes[bytes.size() - 8] = 0x01;  // 2^32 values that are not there
    CHECK(refusal(bytes) == "net.params: ends too early; it is damaged");
  }
  SUBCASE("values that are not finite") {
    parameters one;
    one["a"] = {{1}, {std::numeric_limits<float>::infinity()}, false};
    CHECK(refusal(packed(one)) == "net.params: tensor number 0 has a value that is not finite");
  }
}

TEST_CASE("parameter file: a tensor that does not fill its shape is not written") {
  parameters one;
  one["a"] = {{2}, {1}, false};
  CHECK_THROWS_AS(static_cast<void>(packed(one)), hull::error);
}

TEST_CASE("parameter file: the tensors as a source of parameters") {
  auto const tensors = example();
  auto const source = hull::io::source_of(tensors);
  CHECK(source("fc1.weight").values.data() == tensors.at("fc1.weight").values.data());
  CHECK(source("fc1.weight").values.size() == 6);
  CHECK(!source("fc1.weight").rounded);
  CHECK(source("fc1.bias").rounded);
  CHECK(source("fc2.weight").values.empty());
}
