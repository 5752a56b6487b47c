// SPDX-License-Identifier: Apache-2.0
// hull plan: the memory of a rank, before anything runs.
#pragma once

#include <cstddef>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/io/emit.hpp>
#include <hull/io/onnx.hpp>
#include <hull/propagate/memory.hpp>

#include "commands.hpp"
#include "compiled_network.hpp"
#include "options.hpp"

namespace hull::cli {

/// One policy at one number of ranks, as the compiled library tells it.
struct plan_column final {
  std::string policy;
  std::size_t ranks = 1;
  std::vector<std::string> names;
  std::vector<std::size_t> bytes, first, last;
};
using plan_function = void(std::size_t row_bytes, std::size_t threads, std::vector<plan_column>& columns);

/// The program that asks every policy: plans are constants of types, so types are all that it needs.
[[nodiscard]] inline std::string plan_driver_text(options const& o) {
  std::string const method = o.method == "ibp" ? "interval" : o.method == "alpha-crown" ? "alpha_crown" : "crown";
  bool const cuda = o.device == "cuda";
  std::string const backend = cuda ? "hull::cuda::backend_with<" + precision_type(o) + ">" : "hull::cpu::backend";
  return "#include \"network.hpp\"\n#include <hull/" + std::string(cuda ? "cuda.cuh" : "hull.hpp") + R"(>
#include <hull/shard/memory_plan.hpp>

#include <string>
#include <vector>

namespace hull::cli {
struct plan_column final {
  std::string policy;
  std::size_t ranks = 1;
  std::vector<std::string> names;
  std::vector<std::size_t> bytes, first, last;
};
}  // namespace hull::cli

namespace {
template <class Policy, std::size_t P>
void add(hull::memory_request const& ask, std::vector<hull::cli::plan_column>& columns) {
  using place = hull::on<)" +
         backend + R"(, Policy, hull::Loopback>;
  auto const plan = hull::memory_plan<network, hull::hidden_bounds::)" +
         method + R"(, place, P>(ask);
  auto& column = columns.emplace_back();
  column.policy = Policy::name;
  column.ranks = P;
  for (std::size_t i = 0; i < plan.count; ++i) {
    column.names.emplace_back(plan.buffers[i].name);
    column.bytes.push_back(plan.buffers[i].bytes);
    column.first.push_back(plan.buffers[i].first);
    column.last.push_back(plan.buffers[i].last);
  }
}
template <std::size_t... P>
void add_all(hull::memory_request const& ask, std::vector<hull::cli::plan_column>& columns) {
  (add<hull::Replicated, P>(ask, columns), ...);
  (add<hull::FullySharded, P>(ask, columns), ...);
  (add<hull::TensorParallel, P>(ask, columns), ...);
}
}  // namespace

extern "C" [[gnu::visibility("default")]] void hull_plan(std::size_t row_bytes, std::size_t threads,
                                                        std::vector<hull::cli::plan_column>& columns) {
  add_all<1, 2, 4, 8, 16>({.row_bytes = row_bytes, .threads = threads}, columns);
}
)";
}

[[nodiscard]] inline std::string mebibytes(std::size_t bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << static_cast<double>(bytes) / (1 << 20);
  return text.str();
}

/// Prints bytes per rank for every policy and 1, 2, 4, 8, 16 ranks, and buffer by buffer for the one that is asked for.
inline int plan(options const& o) {
  auto const model = io::load_onnx(o.model);
  compiled_library const library(io::emit_header(model), plan_driver_text(o), o, true, deadline());
  std::vector<plan_column> columns;
  bool const on_host = o.device == "cpu";  // a GPU is one machine, whatever its host has
  std::size_t const threads = !on_host        ? 1
                              : o.threads > 0 ? o.threads
                                              : std::max(1U, std::thread::hardware_concurrency());
  library.find<plan_function>("hull_plan")(o.memory_budget, threads, columns);

  auto const total = [](plan_column const& one) {
    std::size_t sum = 0;
    for (std::size_t const b : one.bytes) sum += b;
    return sum;
  };
  std::ostringstream text;
  text << "MiB per rank, method " << o.method << ", at most " << mebibytes(o.memory_budget) << " for rows, " << threads
       << " threads" << (on_host ? "" : ", precision " + o.precision) << "\n\n";
  text << std::left << std::setw(18) << "ranks" << std::right;
  for (std::size_t const p : {1, 2, 4, 8, 16}) text << std::setw(12) << p;
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i % 5 == 0) text << '\n' << std::left << std::setw(18) << columns[i].policy << std::right;
    text << std::setw(12) << mebibytes(total(columns[i]));
    nlohmann::ordered_json buffers = nlohmann::ordered_json::array();
    for (std::size_t b = 0; b < columns[i].names.size(); ++b) {
      buffers.push_back({{"name", columns[i].names[b]},
                         {"bytes", columns[i].bytes[b]},
                         {"first_stage", columns[i].first[b]},
                         {"last_stage", columns[i].last[b]}});
    }
    report.push_back({{"policy", columns[i].policy},
                      {"ranks", columns[i].ranks},
                      {"bytes", total(columns[i])},
                      {"buffers", buffers}});
  }
  text << '\n';
  for (auto const& one : columns) {
    if (one.policy != o.shard || one.ranks != o.ranks) continue;
    text << "\nbuffers of one rank, " << one.policy << ", ranks: " << one.ranks << "\n\n"
         << std::setw(12) << "MiB" << std::setw(14) << "stages"
         << "  buffer\n";
    for (std::size_t b = 0; b < one.names.size(); ++b) {
      text << std::setw(12) << mebibytes(one.bytes[b]) << std::setw(14)
           << std::to_string(one.first[b]) + "-" + std::to_string(one.last[b]) << "  " << one.names[b] << '\n';
    }
  }
  std::cout << text.str() << std::flush;
  if (!o.json.empty()) write_text(o.json, report.dump(1) + "\n");
  return 0;
}

}  // namespace hull::cli
