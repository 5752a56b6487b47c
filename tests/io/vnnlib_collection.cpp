// SPDX-License-Identifier: Apache-2.0
// Every specification of the collection of VNN-COMP files that may lie beside the checkout.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/file.hpp>
#include <hull/io/vnnlib.hpp>

TEST_CASE("every specification of the shared collection is read, or refused as VNN-LIB 2.0") {
  auto const* const variable = std::getenv("HULL_SHARED");
#if defined(HULL_SHARED_DIR)
  std::filesystem::path const usual = HULL_SHARED_DIR;
#else
  std::filesystem::path const usual = std::filesystem::path(HULL_SOURCE_DIR) / "../shared";
#endif
  auto const folder = (variable ? std::filesystem::path(variable) : usual) / "vnncomp";
  if (!std::filesystem::exists(folder)) {
    MESSAGE("skipped: there is no folder ", folder.string());
    return;
  }
  using shape = std::tuple<std::size_t, std::size_t, std::size_t>;  // inputs, outputs, disjuncts
  std::map<std::string, std::vector<shape>> const known{
      {"mnist_fc", {{784, 10, 9}}},        {"oval21", {{3072, 10, 9}}},     {"malbeware", {{4096, 25, 24}}},
      {"dist_shift", {{792, 10, 1}}},      {"cgan", {{5, 1, 2}}},           {"lsnc", {{6, 8, 13}, {8, 10, 17}}},
      {"cersyve", {{2, 2, 1}, {4, 2, 1}}}, {"tllverifybench", {{2, 1, 1}}}, {"safenlp", {{30, 2, 1}}},
  };
  std::size_t read = 0;
  std::size_t bytes = 0;
  double slowest = 0;  // seconds per megabyte, over files that are large enough to time
  double total = 0;
  bool boxes_differ = false;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(folder)) {
    auto const path = entry.path();
    if (!entry.is_regular_file() || path.string().find(".vnnlib") == std::string::npos) continue;
    CAPTURE(path.string());
    auto const text = hull::io::read_file(path);
    auto const family = std::filesystem::relative(path, folder).begin()->string();
    auto const start = std::chrono::steady_clock::now();
    if (family.rfind("vnnlib2", 0) == 0) {
      CHECK_THROWS_WITH_AS((void)hull::io::read_vnnlib(text, "f"),
                           doctest::Contains("found VNN-LIB 2.0, which is not supported yet"), hull::error);
      continue;
    }
    auto const s = hull::io::read_vnnlib(text, path.string());
    std::chrono::duration<double> const seconds = std::chrono::steady_clock::now() - start;
    ++read;
    bytes += text.size();
    total += seconds.count();
    if (text.size() > 100'000) slowest = std::max(slowest, seconds.count() / static_cast<double>(text.size()) * 1e6);
    if (auto const found = known.find(family); found != known.end()) {
      shape const actual{s.inputs, s.outputs, s.disjuncts.size()};
      CHECK(std::count(found->second.begin(), found->second.end(), actual) == 1);
    }
    auto const& first = s.disjuncts.front().box[0];
    auto const& last = s.disjuncts.back().box[0];
    boxes_differ = boxes_differ || (family == "nn4sys" && first.lower != last.lower);
  }
  CHECK(read > 0);
  CHECK(boxes_differ);
  MESSAGE(read, " files, ", bytes, " bytes in ", total, " s; slowest ", slowest, " s/MB");
  CHECK(slowest < 2);  // a law about growth, not a benchmark: sanitizers and busy machines have to pass it too
}
