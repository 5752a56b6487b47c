// SPDX-License-Identifier: Apache-2.0
// hull verify, hull bounds, hull compile.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include <hull/io/counterexample.hpp>
#include <hull/io/emit.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/io/file.hpp>
#include <hull/io/onnx.hpp>
#include <hull/io/parameters_file.hpp>
#include <hull/io/vnnlib.hpp>
#include <hull/search/stopwatch.hpp>

#include "certificate.hpp"
#include "compiled_network.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "ranks.hpp"
#include "watchdog.hpp"

namespace hull::cli {

using json = nlohmann::ordered_json;

/// Seconds of each phase, in the order they ran.
class phases final {
 public:
  template <class F>
  auto time(std::string const& name, F&& work) {
    detail::stopwatch const watch(counter(name));
    return work();
  }
  [[nodiscard]] json const& seconds() const { return seconds_; }
  json& seconds() { return seconds_; }

 private:
  double& counter(std::string const& name) { return (seconds_[name] = 0.0).get_ref<double&>(); }

  json seconds_ = json::object();
};

inline void write_text(std::filesystem::path const& path, std::string const& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.flush();
  if (!file) throw error(path.string() + ": cannot write this file");
}

[[nodiscard]] inline parameter_source source_of(io::model const& model) {
  return [&model](std::string const& key) -> parameter_values {
    auto const found = model.parameters.find(key);
    if (found == model.parameters.end()) return {};
    return {found->second.values, found->second.rounded};
  };
}

struct input_files final {
  io::model model;
  specification spec;
};

[[nodiscard]] inline input_files read_both(options const& o) {
  return {io::load_onnx(o.model), io::load_vnnlib(o.spec)};
}

/// What every report says about the run. `report`: a verify_report or a bounds_report.
template <class Report>
[[nodiscard]] json run_facts(options const& o, Report const& report) {
  bool const has_driver = o.device != "cpu";
  json memory = json::array();
  for (auto const& one : report.ranks) {
    memory.push_back({{"rank", memory.size()},
                      {"parameters", one.parameters},
                      {"buffers", one.buffers},
                      {"planned", one.planned},
                      {"peak", one.peak},
                      {"search", one.search},
                      {"resident", one.resident}});
    if (has_driver) memory.back()["driver_bytes"] = one.driver;
  }
  json facts = {{"memory", memory}, {"device", o.device}};
  if (has_driver) facts["device_name"] = report.device_name;
  facts.update(
      {{"policy", o.shard}, {"ranks", report.ranks.size()}, {"rounding", o.rounding}, {"precision", o.precision}});
  return facts;
}

/// Prints the verdict, and to --result and --json what they ask for. Exit status 0.
inline int report_verdict(options const& o, verify_report const& report, std::vector<double> const& outputs,
                          phases const& times) {
  std::string text = std::string(to_string(report.answer)) + "\n";
  if (report.answer == verdict::sat) text += io::counterexample_text(report.counterexample, outputs) + "\n";
  if (!o.result.empty()) write_text(o.result, text);
  if (!o.json.empty()) {
    json j = {{"verdict", to_string(report.answer)},
              {"margins", report.margins},
              {"seconds", times.seconds()},
              {"domains", report.domains}};
    j.update(run_facts(o, report));
    write_text(o.json, j.dump(1) + "\n");
  }
  std::cout << text << std::flush;
  return 0;
}

/// Compiles the network, on the first rank before the others: those find it in the cache.
[[nodiscard]] inline compiled_network compile_network(options const& o, rank_group& group, io::model const& model,
                                                      deadline const& end) {
  return group.first_then_all([&] { return compiled_network(io::emit_header(model), o, group.size(), end); });
}

/// What the watchdog reports: `timeout`, or the `unsat` whose certificate took too long.
class verdict_so_far final {
 public:
  verdict_so_far() { report_.answer = verdict::timeout; }
  void learn(verify_report const& report, phases const& times) {
    std::scoped_lock const lock(mutex_);
    report_ = report;
    times_ = times;
  }
  int tell(options const& o) {
    std::scoped_lock const lock(mutex_);
    try {
      return report_verdict(o, report_, {}, times_);
    } catch (error const& bad) {
      std::cerr << "hull: " << bad.what() << '\n';
      return static_cast<int>(bad.kind());
    }
  }

 private:
  std::mutex mutex_;
  verify_report report_;
  phases times_;
};

inline constexpr double watch_grace = 0.5;    // seconds in which the work itself should see that the time is up
inline constexpr double longest_watch = 1e9;  // seconds; far more would overflow the clock

inline int verify(options const& o) {
  auto const start = std::chrono::steady_clock::now();
  rank_group group(o);
  std::atomic<bool> const& interrupted = catch_interrupt();
  deadline end = o.timeout > 0 ? deadline(o.timeout) : deadline();
  end.watch(&interrupted);
  progress_line line;
  phases times;
  struct outcome {
    verify_report report;
    std::vector<double> outputs;
  } found;
  certificate proof;
  verdict_so_far known;
  std::optional<watchdog> guard;
  if (o.timeout > 0 && !group.owns_process()) {  // mpirun takes a rank that just ends for a failure
    guard.emplace(std::min(o.timeout, longest_watch) + watch_grace, [&] { return known.tell(o); });
  }
  try {
    input_files files = times.time("read", [&] { return group.together([&] { return read_both(o); }); });
    group.expect_equal(files.model, o.spec);
    compiled_network const network = times.time("compile", [&] { return compile_network(o, group, files.model, end); });
    found = group.run([&](AnyCommunicator* ranks) {
      outcome mine;
      auto const engine = network.open(source_of(files.model), ranks);
      // a rank of a sharded network does not keep the file's tensors: they are read again for a counterexample
      bool const lean = o.shard == "fully-sharded" && group.owns_process();
      if (lean) files.model.parameters = {};
      auto const confirm = [&](std::span<double const> x) {
        auto y = lean ? io::evaluate(io::load_onnx(o.model), x) : io::evaluate(files.model, x);
        if (!io::satisfies(files.spec, x, y)) return false;
        mine.outputs = std::move(y);
        return true;
      };
      verify_options v = to_verify_options(o);
      if (o.timeout > 0) {
        v.timeout = o.timeout - std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      }
      v.interrupt = &interrupted;
      bool const first = ranks == nullptr || ranks->rank() == 0;
      if (first && progress_line::wanted()) v.progress = [&](search_progress const& now) { line.show(now); };
      if (first && !o.certificate.empty()) v.proof = &proof;
      mine.report = engine->verify(files.spec, v, confirm);
      return mine;
    });
    times.seconds()["bound"] = found.report.bound_seconds;
    times.seconds()["attack"] = found.report.attack_seconds;
    times.seconds()["search"] = found.report.search_seconds;
    times.seconds()["tree"] = found.report.tree_seconds;
    times.seconds()["kernels"] = found.report.kernel_seconds;
    if (!o.certificate.empty() && found.report.answer == verdict::unsat) {
      known.learn(found.report, times);
      times.time("certificate", [&] { write_certificate(o, files.model, files.spec, proof, end); });
    }
  } catch (deadline_passed const&) {
    found.report.answer = verdict::timeout;
  }
  if (interrupted && found.report.answer == verdict::timeout) found.report.answer = verdict::unknown;
  line.clear();
  if (guard) guard->settle();
  return group.reports() ? report_verdict(o, found.report, found.outputs, times) : 0;
}

/// A float as the shortest decimal of at most nine digits that reads back as the same float.
[[nodiscard]] inline json number(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return std::strtod(text, nullptr);
}

[[nodiscard]] inline json numbers(std::vector<float> const& values) {
  json list = json::array();
  for (float const value : values) list.push_back(number(value));
  return list;
}

inline int bounds(options const& o) {
  rank_group group(o);
  phases times;
  input_files const files = times.time("read", [&] { return group.together([&] { return read_both(o); }); });
  io::model const& model = files.model;
  group.expect_equal(model, o.spec);
  compiled_network const network = times.time("compile", [&] { return compile_network(o, group, model, deadline()); });
  auto const report = group.run([&](AnyCommunicator* ranks) {
    return network.open(source_of(model), ranks)->bounds(files.spec, to_verify_options(o), o.repeat);
  });
  if (!group.reports()) return 0;

  auto const order = io::expression_order(model);
  json nodes = json::object();
  for (auto const& one : report.nodes) {
    io::node const& node = model.nodes[order[one.node]];
    if (node.tensor.empty()) continue;  // a step of its own within an operator of the file
    nodes[node.tensor] = {{"shape", node.shape}, {"lower", numbers(one.lower)}, {"upper", numbers(one.upper)}};
  }
  json rows = json::array();
  for (double const lower : report.rows) rows.push_back({{"lower", number(down::from_double(lower))}});
  times.seconds()["bound"] = report.seconds;
  json j = {{"nodes", nodes}, {"rows", rows}, {"seconds", times.seconds()}};
  j.update(run_facts(o, report));
  std::string const text = j.dump(1) + "\n";
  if (o.json.empty()) {
    std::cout << text << std::flush;
  } else {
    write_text(o.json, text);
  }
  return 0;
}

inline int compile(options const& o) {
  auto const model = io::load_onnx(o.model);
  std::error_code failed;
  std::filesystem::create_directories(o.output, failed);
  if (failed) throw error(o.output.string() + ": cannot make this folder (" + failed.message() + ")");
  write_text(o.output / "network.hpp", io::emit_header(model));
  io::save_parameters(o.output / "network.parameters", model.parameters);
  std::cout << (o.output / "network.hpp").string() << '\n' << (o.output / "network.parameters").string() << '\n';
  return 0;
}

}  // namespace hull::cli
