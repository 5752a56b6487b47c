// SPDX-License-Identifier: Apache-2.0
// What the command line asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include <hull/core/error.hpp>
#include <hull/search/verdict.hpp>

namespace hull::cli {

struct options final {
  std::string model;
  std::string spec;
  std::string method = "auto";
  std::string rounding = "outward";
  std::string hidden;              // empty: by rounding
  std::string device = "cpu";      // or "cuda"
  std::string precision = "fp32";  // of products on a GPU
  std::string shard = "replicated";
  std::string comm = "solo";
  std::size_t ranks = 1;
  bool ranks_given = false;
  double timeout = 0;  // seconds; 0: none
  std::size_t memory_budget = std::size_t{1} << 30;
  std::size_t threads = 0;  // 0: all
  std::size_t repeat = 1;
  std::uint64_t seed = 1;
  std::filesystem::path json;
  std::filesystem::path result;
  std::filesystem::path certificate;  // `verify` writes it, `check` reads it
  std::filesystem::path cache;        // empty: the user's
  std::filesystem::path output;
};

/// Throws hull::error where the precision does not go with the device.
inline void expect_precision(options const& o) {
  expect(o.device == "cuda" || o.precision == "fp32", "--precision " + o.precision + " needs --device cuda");
}

/// The type of that precision (backend/cuda/precision.cuh), for programs that are written for nvcc.
[[nodiscard]] inline std::string precision_type(options const& o) {
  return o.precision == "tf32x3"   ? "hull::cuda::Tf32x3"
         : o.precision == "fp16x3" ? "hull::cuda::Fp16x3"
                                   : "hull::cuda::Fp32";
}

[[nodiscard]] inline verify_options to_verify_options(options const& o) {
  verify_options v;
  v.method = o.method == "ibp"           ? bound_method::interval
             : o.method == "crown"       ? bound_method::crown
             : o.method == "alpha-crown" ? bound_method::alpha_crown
             : o.method == "bab"         ? bound_method::branch
                                         : bound_method::automatic;
  v.memory_budget = o.memory_budget;
  // `nearest` is for comparison with other tools, which take CROWN's hidden bounds as they are
  v.intersect_hidden = o.hidden.empty() ? o.rounding != "nearest" : o.hidden == "intersect";
  v.seed = o.seed;
  return v;
}

}  // namespace hull::cli
