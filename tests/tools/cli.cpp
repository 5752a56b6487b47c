// SPDX-License-Identifier: Apache-2.0
// The command line tool as a user sees it: first line, exit status, one clear line on bad input.
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <hull/io/counterexample.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/io/onnx.hpp>
#include <hull/io/vnnlib.hpp>

#include "io/onnx_graph.hpp"
#include "run.hpp"

namespace {

namespace fs = std::filesystem;
using hull::reference::run;

fs::path const digits = fs::path(HULL_SOURCE_DIR) / "examples" / "digits";
fs::path const scratch = fs::temp_directory_path() / ("hull_cli_test_" + std::to_string(getpid()));

std::string read(fs::path const& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path write(std::string const& name, std::string const& text) {
  fs::create_directories(scratch);
  std::ofstream(scratch / name, std::ios::binary) << text;
  return scratch / name;
}

/// Bad input: status 2, one line that has `what`.
void refused(std::string const& arguments, std::string const& what, std::string const& environment = "") {
  CAPTURE(arguments);
  auto const result = run(arguments, environment);
  CAPTURE(result.text);
  CHECK(result.status == 2);
  CHECK(std::count(result.text.begin(), result.text.end(), '\n') == 1);
  CHECK(result.text.find(what) != std::string::npos);
}

std::string const mlp = (digits / "mlp.onnx").string();
std::string const one_property = [] {
  for (auto const& file : fs::directory_iterator(digits / "properties")) {
    if (file.path().filename().string().starts_with("mlp")) return file.path().string();
  }
  return std::string();
}();

}  // namespace

TEST_CASE("the example's properties have the verdicts of expected.csv") {
  std::ifstream table(digits / "expected.csv");
  std::string line;
  std::getline(table, line);
  int count = 0;
  while (std::getline(table, line)) {
    std::istringstream cells(line);
    std::string onnx, vnnlib, expected;
    std::getline(cells, onnx, ',');
    std::getline(cells, vnnlib, ',');
    std::getline(cells, expected);
    CAPTURE(vnnlib);
    auto const model = (digits / onnx).string(), spec = (digits / vnnlib).string();
    auto const report = scratch / "report.json";
    fs::create_directories(scratch);
    auto const result = run("verify " + model + " " + spec + " --timeout 60 --json " + report.string());
    CAPTURE(result.text);
    CHECK(result.status == 0);
    std::string const verdict = result.text.substr(0, result.text.find('\n'));
    CHECK((verdict == expected || verdict == "unknown" || verdict == "timeout"));  // never the opposite
    auto const json = nlohmann::json::parse(std::ifstream(report));
    CHECK(json["verdict"] == verdict);
    CHECK(json["memory"][0]["peak"] <= json["memory"][0]["planned"]);
    if (verdict == "sat") {
      // the counterexample, read back, violates the specification
      auto const network = hull::io::load_onnx(model);
      auto const asked = hull::io::load_vnnlib(spec);
      std::vector<double> x(asked.inputs), y(asked.outputs);
      std::string text = result.text.substr(result.text.find('\n') + 1);
      for (char& c : text) c = c == '(' || c == ')' ? ' ' : c;
      std::istringstream numbers(text);
      std::string name;
      for (double value; numbers >> name >> value;) {
        (name[0] == 'X' ? x : y).at(std::stoul(name.substr(2))) = value;
      }
      auto const exact = hull::io::evaluate(network, x);
      CHECK(hull::io::satisfies(asked, x, exact));
      for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == doctest::Approx(exact[i]));
    }
    ++count;
  }
  CHECK(count >= 8);
}

TEST_CASE("bounds prints every pre-activation, equal for every memory budget") {
  auto const result = run("bounds " + mlp + " " + one_property + " --method crown");
  REQUIRE(result.status == 0);
  auto const json = nlohmann::json::parse(result.text);
  CHECK(json["nodes"].size() == 3);
  CHECK(json["rows"].size() == 9);
  CHECK(json["precision"] == "fp32");
  auto const small = run("bounds " + mlp + " " + one_property + " --method crown --memory-budget 600KB");
  REQUIRE(small.status == 0);
  auto const other = nlohmann::json::parse(small.text);
  CHECK(other["nodes"] == json["nodes"]);
  CHECK(other["rows"] == json["rows"]);
}

TEST_CASE("operators that become several have one name in the report") {
  test::onnx_graph g({1, 1, 2, 2});
  g.constant("w", {1, 1, 2, 2}, {1, 2, -3, 4});
  test::set(g.node("ConvTranspose", {"x", "w"}, {"wide"}), "strides", test::integers{2, 2});
  g.node("Relu", {"wide"}, {"r"});
  g.constant("s", {4}, {1, 1, 1, 2});
  g.node("Upsample", {"r", "s"}, {"u"});
  g.node("Flatten", {"u"});
  auto const model = write("larger.onnx", g.proto.SerializeAsString());
  std::string text;
  for (int i = 0; i < 4; ++i) text += "(declare-const X_" + std::to_string(i) + " Real)\n";
  for (int i = 0; i < 32; ++i) text += "(declare-const Y_" + std::to_string(i) + " Real)\n";
  for (int i = 0; i < 4; ++i) {
    text += "(assert (>= X_" + std::to_string(i) + " 0.5))\n(assert (<= X_" + std::to_string(i) + " 1))\n";
  }
  auto const spec = write("larger.vnnlib", text + "(assert (>= Y_2 2.5))\n");  // at most 2
  auto const both = model.string() + ' ' + spec.string();
  auto const bounds = run("bounds " + both + " --method crown");
  CAPTURE(bounds.text);
  REQUIRE(bounds.status == 0);
  auto const nodes = nlohmann::json::parse(bounds.text)["nodes"];
  CHECK(nodes.size() == 3);  // wide, u and y
  CHECK_FALSE(nodes.contains(""));
  REQUIRE(nodes.contains("wide"));
  CHECK(nodes["wide"]["lower"].size() == 16);
  REQUIRE(nodes.contains("y"));
  CHECK(nodes["y"]["upper"].size() == 32);
  CHECK(nodes["y"]["upper"][2].get<double>() == doctest::Approx(2));
  CHECK(run("verify " + both).text.starts_with("unsat"));
  auto const reached = write("reached.vnnlib", text + "(assert (>= Y_2 1.5))\n");
  CHECK(run("verify " + model.string() + ' ' + reached.string()).text.starts_with("sat"));
}

TEST_CASE("a memory budget is never exceeded") {
  auto const none = run("verify " + mlp + " " + one_property + " --memory-budget 100KB");
  CHECK(none.status == 2);
  CHECK(none.text.find("the memory budget is 102400 bytes, this network needs") != std::string::npos);
  auto const report = (scratch / "budget.json").string();
  REQUIRE(run("verify " + mlp + " " + one_property + " --memory-budget 2MB --json " + report).status == 0);
  auto const memory = nlohmann::json::parse(read(report))["memory"][0];
  CHECK(memory["planned"] == memory["peak"]);
  CHECK(memory["peak"].get<std::size_t>() + memory["search"].get<std::size_t>() <= std::size_t{2} << 20);
}

TEST_CASE("compile writes a header and a parameter file") {
  auto const folder = scratch / "compiled";
  auto const result = run("compile " + mlp + " -o " + folder.string());
  CHECK(result.status == 0);
  CHECK(read(folder / "network.hpp").find("Linear<\"fc1\"") != std::string::npos);
  CHECK(fs::file_size(folder / "network.parameters") > 1000);
}

TEST_CASE("bad arguments and files end with status 2 and one line") {
  std::string const model = read(mlp), spec = read(one_property);
  refused("", "subcommand");
  refused("verify", "MODEL");
  refused("verify nowhere.onnx " + one_property, "nowhere.onnx");
  refused("verify " + mlp + " nowhere.vnnlib", "nowhere.vnnlib");
  refused("verify " + scratch.parent_path().string() + " " + one_property, "folder");
  refused("verify " + mlp + " " + one_property + " --method magic", "magic");
  refused("verify " + mlp + " " + one_property + " --timeout -3", "--timeout");
  refused("verify " + write("short.onnx", model.substr(0, model.size() / 2)).string() + " " + one_property,
          "short.onnx");
  refused("verify " + write("empty.onnx", "").string() + " " + one_property, "empty.onnx");
  refused("verify " + one_property + " " + one_property, "vnnlib");
  refused("verify " + mlp + " " + mlp, "mlp.onnx");
  refused("verify " + mlp + " " + write("short.vnnlib", spec.substr(0, spec.size() / 2)).string(), "short.vnnlib");
  refused("verify " + mlp + " " + write("half.gz", "\x1f\x8b\x08").string(), "half.gz");
}

TEST_CASE("wrong counts, empty boxes and inverted boxes are refused") {
  auto const spec = [](std::size_t inputs, std::string const& range, std::size_t outputs) {
    std::string text;
    for (std::size_t i = 0; i < inputs; ++i) text += "(declare-const X_" + std::to_string(i) + " Real)\n";
    for (std::size_t i = 0; i < outputs; ++i) text += "(declare-const Y_" + std::to_string(i) + " Real)\n";
    for (std::size_t i = 0; i < inputs; ++i) {
      std::string const x = "X_" + std::to_string(i);
      text += "(assert (>= " + x + " " + range.substr(0, range.find(' ')) + "))\n";
      text += "(assert (<= " + x + " " + range.substr(range.find(' ') + 1) + "))\n";
    }
    return text + "(assert (<= Y_0 Y_1))\n";
  };
  refused("verify " + mlp + " " + write("x63.vnnlib", spec(63, "0 1", 10)).string(), "63");
  refused("verify " + mlp + " " + write("y9.vnnlib", spec(64, "0 1", 9)).string(), "9");
  refused("verify " + mlp + " " + write("inverted.vnnlib", spec(64, "0.5 0.25", 10)).string(), "X_0");
  refused("verify " + mlp + " " + write("infinite.vnnlib", spec(64, "0 1e999", 10)).string(), "infinite.vnnlib");
  CHECK(run("verify " + mlp + " " + write("good.vnnlib", spec(64, "0 1", 10)).string() + " --timeout 5").status == 0);
}

TEST_CASE("a cache that cannot be written is refused") {
  auto const file = write("not_a_folder", "");
  refused("verify " + mlp + " " + one_property, "HULL_CACHE_DIR", "HULL_CACHE_DIR=" + (file / "below").string());
}

TEST_CASE("threads wait for each other in short loops, unless the user says how") {
  std::string const show = "OMP_DISPLAY_ENV=verbose", none = "env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY ";
  auto const shown = run("--version", none + show).text;  // by the OpenMP runtime of gcc
  if (shown.find("GOMP_SPINCOUNT") == std::string::npos) {
    MESSAGE("skipped: another OpenMP runtime");
    return;
  }
  CHECK(shown.find("GOMP_SPINCOUNT = '2000'") != std::string::npos);
  CHECK(run("--version", none + "GOMP_SPINCOUNT=77 " + show).text.find("'2000'") == std::string::npos);
  CHECK(run("--version", none + "OMP_WAIT_POLICY=active " + show).text.find("'2000'") == std::string::npos);
}

TEST_CASE("the time limit holds") {
  // an unseen architecture with an empty cache: the compiler alone takes longer than this
  auto const cache = scratch / "empty_cache";
  fs::remove_all(cache);
  auto const start = std::chrono::steady_clock::now();
  auto const result = run("verify " + mlp + " " + one_property + " --timeout 0.5 --cache-dir " + cache.string());
  CHECK(result.text == "timeout\n");
  CHECK(result.status == 0);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1.5);
}

TEST_CASE("the time limit holds where it is over before the compiler starts, and where a file never comes") {
  auto const cache = scratch / "empty_cache";
  auto const pipe = scratch / "pipe.onnx";
  fs::create_directories(scratch);
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  for (auto const& command : {mlp + " " + one_property + " --timeout 0.001 --cache-dir " + cache.string(),
                              pipe.string() + " " + one_property + " --timeout 0.3"}) {
    auto const start = std::chrono::steady_clock::now();
    auto const result = run("verify " + command);
    CHECK(result.text == "timeout\n");
    CHECK(result.status == 0);
    CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1.3);
  }
  fs::remove_all(scratch);
}
