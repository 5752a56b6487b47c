// SPDX-License-Identifier: Apache-2.0
// Any bytes are either a specification that keeps its invariants or a hull::error of one line.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <hull/core/error.hpp>
#include <hull/io/counterexample.hpp>
#include <hull/io/vnnlib.hpp>

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(std::vector<hull::term> const& terms, std::size_t count) {
  for (std::size_t i = 0; i < terms.size(); ++i) {
    require(terms[i].index < count && std::isfinite(terms[i].coefficient) && terms[i].coefficient != 0);
    require(i == 0 || terms[i - 1].index < terms[i].index);
  }
}

void check(hull::specification const& s) {
  require(s.inputs > 0 && !s.disjuncts.empty() && s.source == "fuzz");
  std::vector<double> x(s.inputs);
  std::vector<double> const y(s.outputs);
  for (auto const& d : s.disjuncts) {
    require(d.box.size() == s.inputs);
    for (std::size_t i = 0; i < s.inputs; ++i) {
      require(std::isfinite(d.box[i].lower) && std::isfinite(d.box[i].upper) && d.box[i].lower <= d.box[i].upper);
      x[i] = d.box[i].lower;
    }
    for (auto const& c : d.constraints) {
      check(c.outputs, s.outputs);
      check(c.inputs, s.inputs);
      require(std::isfinite(c.constant) && !(c.outputs.empty() && c.inputs.empty()));
    }
    if (hull::io::satisfies(d, x, y)) require(hull::io::satisfies(s, x, y));
  }
  require(hull::io::counterexample_text(x, y).substr(0, 6) == "((X_0 ");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  hull::io::vnnlib_limits limits;  // small, so that inputs of a few bytes can reach them
  limits.disjuncts = 2000;
  limits.bytes = 4 << 20;
  try {
    check(hull::io::read_vnnlib({reinterpret_cast<char const*>(data), size}, "fuzz", limits));
  } catch (hull::error const& e) {
    std::string_view const what = e.what();
    require(what.rfind("fuzz:", 0) == 0 && what.find('\n') == what.npos);
    require(what.find("found ") != what.npos && what.find(", expected ") != what.npos);
  }
  return 0;
}
