// SPDX-License-Identifier: Apache-2.0
// Bounds against auto_LiRPA's own, stored with its test suite. Skipped where that data is missing.
#include <cmath>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include <hull/io/emit.hpp>
#include <hull/io/onnx.hpp>

#include "../../tools/cli/commands.hpp"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Largest excess of |a - b| over the tolerance, in units of the tolerance; 1 or less is agreement.
double misfit(std::vector<float> const& ours, json const& theirs, double rtol, double atol) {
  double worst = 0;
  REQUIRE(ours.size() == theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    double const reference = theirs[i].get<double>();
    worst = std::max(worst, std::fabs(static_cast<double>(ours[i]) - reference) / (atol + rtol * std::fabs(reference)));
  }
  return worst;
}

hull::specification box_of(json const& input, std::size_t outputs) {
  hull::disjunct one;
  if (input.contains("center")) {
    double const eps = input["eps"].get<double>();
    for (auto const& c : input["center"]) one.box.push_back({c.get<double>() - eps, c.get<double>() + eps});
  } else {
    for (std::size_t i = 0; i < input["lower"].size(); ++i) {
      one.box.push_back({input["lower"][i].get<double>(), input["upper"][i].get<double>()});
    }
  }
  return {one.box.size(), outputs, {one}, "oracle"};
}

/// Checks one stored method against hull's; returns the worst misfit over all regions.
double check(hull::engine& engine, json const& expected, std::string const& stored, hull::bound_method method) {
  hull::verify_options options;
  options.method = method;
  options.intersect_hidden = false;
  auto const& theirs = expected["methods"][stored];
  double const rtol = expected["tolerance"]["rtol"].get<double>(), atol = expected["tolerance"]["atol"].get<double>();
  double worst = 0;
  for (std::size_t i = 0; i < expected["inputs"].size(); ++i) {
    auto const& input = expected["inputs"][i];
    if (input["norm"] != "inf" || theirs["lower"][i].is_null()) continue;
    auto const bounds = engine.bounds(box_of(input, theirs["lower"][i].size()), options, 1);
    auto const& output = bounds.nodes.back();
    worst = std::max({worst, misfit(output.lower, theirs["lower"][i], rtol, atol),
                      misfit(output.upper, theirs["upper"][i], rtol, atol)});
  }
  return worst;
}

}  // namespace

TEST_CASE("bounds agree with auto_LiRPA's stored ones") {
  fs::path const root = fs::path(HULL_SHARED_DIR) / "oracle";
  if (!fs::exists(root)) {
    MESSAGE("skipped: " << root.string() << " is not there");
    return;
  }
  for (auto const& folder : fs::directory_iterator(root)) {
    if (!folder.is_directory()) continue;
    std::string const name = folder.path().filename().string();
    CAPTURE(name);
    auto const model = hull::io::load_onnx(folder.path() / "model.onnx");
    json const expected = json::parse(std::ifstream(folder.path() / "expected.json"));
    hull::cli::options options;
    options.rounding = "nearest";
    hull::cli::compiled_network const network(hull::io::emit_header(model), options, 1, hull::deadline());
    auto const engine = network.open(hull::cli::source_of(model), nullptr);

    auto const& methods = expected["methods"];
    if (methods.contains("ibp")) {
      double const worst = check(*engine, expected, "ibp", hull::bound_method::interval);
      MESSAGE(name << " ibp: misfit " << worst << " of the tolerance");
      CHECK(worst <= 1);
    }
    // which hidden neurons get rows changes the digits: a tool has to match one of the recorded policies
    double best = 1e300;
    for (std::string const stored : {"crown", "crown-ibp-stable-batch1", "crown-all-neurons"}) {
      if (!methods.contains(stored)) continue;
      double const worst = check(*engine, expected, stored, hull::bound_method::crown);
      MESSAGE(name << " " << stored << ": misfit " << worst << " of the tolerance");
      best = std::min(best, worst);
    }
    CHECK(best <= 1);
  }
}
