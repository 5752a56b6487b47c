// SPDX-License-Identifier: Apache-2.0
// The command line tool: arguments in, exit status out (0 a verdict, 2 bad input, 3 device or communicator failure).
#include <CLI/CLI.hpp>
#include <chrono>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cli/commands.hpp"
#include "cli/plan.hpp"
#include "cli/process.hpp"

namespace {

using hull::cli::options;

void add_device(CLI::App& command, options& o) {
  command.add_option("--device", o.device, "where to compute bounds; cuda needs nvcc and a GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--precision", o.precision,
                  "products with --device cuda: of wide dense layers on tensor cores with tf32x3 and fp16x3, of "
                  "convolutions with fp16x3")
      ->check(CLI::IsMember({"fp32", "tf32x3", "fp16x3"}))
      ->capture_default_str();
}

/// The options that `verify` and `bounds` share.
void add_common(CLI::App& command, options& o) {
  command.add_option("MODEL", o.model, "ONNX file, .gz too")->required();
  command.add_option("SPEC", o.spec, "VNN-LIB file, .gz too")->required();
  command.add_option("--method", o.method, "auto: intervals, attack, CROWN, alpha-CROWN, branch and bound")
      ->check(CLI::IsMember({"auto", "ibp", "crown", "alpha-crown", "bab"}))
      ->capture_default_str();
  command.add_option("--rounding", o.rounding, "outward: sound in floating point; nearest: for comparison")
      ->check(CLI::IsMember({"outward", "nearest"}))
      ->capture_default_str();
  command
      .add_option("--hidden", o.hidden,
                  "hidden bounds: intersect CROWN's with intervals (default), or replace those by "
                  "them, as other tools do (default with --rounding nearest)")
      ->check(CLI::IsMember({"intersect", "replace"}));
  add_device(command, o);
  command.add_option("--shard", o.shard, "how ranks share the work")
      ->check(CLI::IsMember({"replicated", "fully-sharded", "tensor-parallel"}))
      ->capture_default_str();
  command.add_option("--ranks", o.ranks, "number of ranks (with --comm mpi and nccl: as many as were started)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--comm", o.comm,
                  "how ranks talk: loopback: threads of this process; mpi: run it under mpirun; nccl: a GPU "
                  "each, run it under torchrun, srun or mpirun")
      ->check(CLI::IsMember(hull::cli::communicators()))
      ->capture_default_str();
  command.add_option("--memory-budget", o.memory_budget, "bytes for all buffers of a propagation; 512MB, 2GB, ...")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::PositiveNumber);
  command.add_option("--threads", o.threads, "threads to use; 0: one for each core")->check(CLI::Range(0, 4096));
  command.add_option("--seed", o.seed, "of the attack");
  command.add_option("--json", o.json, "write a report to this file");
  command.add_option("--cache-dir", o.cache,
                     "compiled networks (default: $HULL_CACHE_DIR, $XDG_CACHE_HOME/hull, ~/.cache/hull)");
}

/// One line on stderr, whatever the message holds.
int fail(std::string message, int status) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::cerr << "hull: " << message << '\n';
  return status;
}

int run(int argc, char** argv) {
  options o;
  CLI::App app{"hull proves properties of neural networks for all inputs of a set", "hull"};
  app.set_version_flag("--version", std::string(hull::version));
  app.require_subcommand(1);

  CLI::App* const verify =
      app.add_subcommand("verify", "prove or refute a property: prints unsat, sat, unknown or timeout");
  add_common(*verify, o);
  verify->add_option("--timeout", o.timeout, "seconds for everything")->check(CLI::PositiveNumber);
  verify->add_option("--result", o.result, "write the verdict in VNN-COMP's format to this file");
  verify->add_option("--certificate", o.certificate, "after `unsat`, write its proof to this file");

  CLI::App* const check =
      app.add_subcommand("check", "prove a certificate again: prints valid, or invalid and the reason");
  check->add_option("MODEL", o.model, "ONNX file, .gz too")->required();
  check->add_option("SPEC", o.spec, "VNN-LIB file, .gz too")->required();
  check->add_option("CERTIFICATE", o.certificate, "file that verify --certificate wrote")->required();
  check->add_option("--threads", o.threads, "threads to use; 0: one for each core")->check(CLI::Range(0, 4096));

  CLI::App* const bounds = app.add_subcommand("bounds", "lower and upper bounds of every pre-activation, as JSON");
  add_common(*bounds, o);
  bounds->add_option("--repeat", o.repeat, "compute the bounds this often, for timing")->check(CLI::Range(1, 100000));

  CLI::App* const compile = app.add_subcommand("compile", "write the network as a C++ header and a parameter file");
  compile->add_option("MODEL", o.model, "ONNX file, .gz too")->required();
  compile->add_option("-o,--output", o.output, "folder for both files")->required();

  CLI::App* const plan =
      app.add_subcommand("plan", "print the memory that a rank needs, for every policy and number of ranks");
  plan->add_option("MODEL", o.model, "ONNX file, .gz too")->required();
  plan->add_option("--method", o.method, "how hidden neurons are bounded")
      ->check(CLI::IsMember({"ibp", "crown", "alpha-crown"}))
      ->default_str("crown");
  plan->add_option("--shard", o.shard, "the policy whose buffers are listed one by one")
      ->check(CLI::IsMember({"replicated", "fully-sharded", "tensor-parallel"}))
      ->capture_default_str();
  plan->add_option("--ranks", o.ranks, "for that list")->check(CLI::IsMember({1, 2, 4, 8, 16}))->capture_default_str();
  add_device(*plan, o);
  plan->add_option("--memory-budget", o.memory_budget, "most bytes for rows, all ranks together; 512MB, 2GB, ...")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::PositiveNumber);
  plan->add_option("--threads", o.threads, "of each rank; 0: one for each core")->check(CLI::Range(0, 4096));
  plan->add_option("--json", o.json, "write all buffers of all policies to this file");
  plan->add_option("--cache-dir", o.cache, "compiled networks");

  try {
    app.parse(argc, argv);
  } catch (CLI::Success const& done) {
    return app.exit(done);  // --help, --version
  } catch (CLI::ParseError const& bad) {
    return fail(bad.what(), 2);
  }
  try {
#ifdef _OPENMP
    if (o.threads > 0) omp_set_num_threads(static_cast<int>(o.threads));
#endif
    hull::cli::expect_precision(o);
    for (auto const* command : {verify, bounds}) o.ranks_given = o.ranks_given || command->count("--ranks") > 0;
    if (verify->parsed()) return hull::cli::verify(o);
    if (bounds->parsed()) return hull::cli::bounds(o);
    if (check->parsed()) return hull::cli::check(o);
    if (plan->parsed()) {
      if (plan->count("--method") == 0) o.method = "crown";
      return hull::cli::plan(o);
    }
    return hull::cli::compile(o);
  } catch (hull::error const& bad) {
    return fail(bad.what(), static_cast<int>(bad.kind()));
  } catch (hull::cli::silent_end const&) {
    // mpirun ends all ranks as soon as one has failed: the one that speaks goes first
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return static_cast<int>(hull::fault::device);
  } catch (std::bad_alloc const&) {
    return fail("out of memory; try a smaller --memory-budget", 3);
  } catch (std::exception const& bad) {
    return fail(bad.what(), 3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  hull::cli::wait_in_short_loops(argv);
  try {
    return run(argc, argv);
  } catch (...) {  // stderr cannot be written either
    return 3;
  }
}
