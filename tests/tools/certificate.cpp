// SPDX-License-Identifier: Apache-2.0
// verify --certificate and check, as a user runs them.
#include <algorithm>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <hull/io/certificate_file.hpp>
#include <hull/io/file.hpp>
#include <hull/io/onnx.hpp>

#include "run.hpp"

namespace {

namespace fs = std::filesystem;
using hull::reference::run;

fs::path const digits = fs::path(HULL_SOURCE_DIR) / "examples" / "digits";
fs::path const scratch = fs::temp_directory_path() / ("hull_certificate_test_" + std::to_string(getpid()));

/// One line of expected.csv.
struct instance {
  std::string model, spec, verdict;
};

std::vector<instance> instances() {
  std::vector<instance> list;
  std::ifstream table(digits / "expected.csv");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream cells(line);
    instance one;
    std::getline(cells, one.model, ',');
    std::getline(cells, one.spec, ',');
    std::getline(cells, one.verdict);
    one.model = (digits / one.model).string();
    one.spec = (digits / one.spec).string();
    list.push_back(one);
  }
  return list;
}

/// Bad input: status 2, one line that has `what`.
void refused(std::string const& arguments, std::string const& what) {
  auto const result = run(arguments);
  CAPTURE(result.text);
  CHECK(result.status == 2);
  CHECK(std::count(result.text.begin(), result.text.end(), '\n') == 1);
  CHECK(result.text.find(what) != std::string::npos);
}

}  // namespace

TEST_CASE("every unsat of the example comes with a certificate that is valid, and only for its own files") {
  fs::create_directories(scratch);
  std::string const file = (scratch / "proof").string();
  std::string last_model, last_spec;
  int count = 0;
  for (auto const& one : instances()) {
    CAPTURE(one.spec);
    fs::remove(file);
    auto const result = run("verify " + one.model + " " + one.spec + " --timeout 120 --certificate " + file);
    CAPTURE(result.text);
    CHECK(result.status == 0);
    CHECK(fs::exists(file) == result.text.starts_with("unsat"));
    if (!fs::exists(file)) continue;
    auto const checked = run("check " + one.model + " " + one.spec + " " + file);
    CHECK(checked.status == 0);
    CHECK(checked.text.starts_with("valid\n"));
    if (!last_spec.empty()) {
      refused("check " + one.model + " " + last_spec + " " + file, "another specification");
      if (last_model != one.model) refused("check " + last_model + " " + one.spec + " " + file, "another model");
    }
    last_model = one.model;
    last_spec = one.spec;
    ++count;
  }
  CHECK(count >= 4);
}

TEST_CASE("damaged certificates are refused, wrong ones are invalid") {
  fs::create_directories(scratch);
  std::string const file = (scratch / "proof").string();
  auto const all = instances();
  auto const& one = all.front();
  REQUIRE(run("verify " + one.model + " " + one.spec + " --certificate " + file).text == "unsat\n");
  std::string const arguments = "check " + one.model + " " + one.spec + " ";
  refused(arguments + "nowhere", "nowhere");
  refused(arguments + one.spec, "not a certificate");
  std::string const bytes = hull::io::read_file(file);
  auto const write = [&](std::string const& name, std::string const& text) {
    std::ofstream(scratch / name, std::ios::binary) << text;
    return (scratch / name).string();
  };
  refused(arguments + write("short", bytes.substr(0, bytes.size() - 9)), "damaged");
  std::string flipped = bytes;
  flipped[flipped.size() - 20] ^= 1;  // in the last leaf
  refused(arguments + write("flipped", flipped), "damaged");
  CHECK(run(arguments + write("unpacked", bytes)).text.starts_with("valid\n"));

  // a certificate of the right form that proves too little
  auto const model = hull::io::load_onnx(one.model);
  auto const subject = hull::io::subject_of(model, hull::io::read_file(one.spec));
  auto proof = hull::io::load_certificate(file, subject);
  proof.disjuncts.pop_back();
  hull::io::save_certificate(scratch / "less", proof, subject);
  auto const result = run(arguments + (scratch / "less").string());
  CHECK(result.status == 0);
  CHECK(result.text.starts_with("invalid: "));
  fs::remove_all(scratch);
}
