// SPDX-License-Identifier: Apache-2.0
// Turns a network header into a verifier: the system's compiler builds a shared library, which is kept by architecture.
#pragma once

#include <algorithm>
#include <cstdint>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include <hull/core/config.hpp>
#include <hull/core/deadline.hpp>
#include <hull/core/error.hpp>
#include <hull/search/engine.hpp>

#include "compiler.hpp"
#include "options.hpp"
#include "process.hpp"

namespace hull::cli {

/// The library's headers: beside the installed program, else where it was built.
[[nodiscard]] inline fs::path include_folder() {
  std::error_code ignored;
  fs::path const beside = fs::read_symlink("/proc/self/exe", ignored).parent_path().parent_path() / "include";
  return fs::exists(beside / "hull" / "hull.hpp", ignored) ? beside : fs::path(HULL_SOURCE_DIR) / "include";
}

[[nodiscard]] inline fs::path cache_folder(fs::path const& asked) {
  if (!asked.empty()) return asked;
  if (auto const own = environment("HULL_CACHE_DIR"); !own.empty()) return own;
  if (auto const cache = environment("XDG_CACHE_HOME"); !cache.empty()) return fs::path(cache) / "hull";
  return fs::path(environment("HOME", "/tmp")) / ".cache" / "hull";
}

/// Contents of a file, empty if it cannot be read.
[[nodiscard]] inline std::string slurp(fs::path const& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The processor, because binaries are built for it and a home folder may be shared by several machines.
[[nodiscard]] inline std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name") || line.starts_with("flags")) return line;
  }
  return {};
}

/// All that decides what a binary does: two builds with equal text are the same.
[[nodiscard]] inline std::string build_text(std::string const& header, std::string const& driver,
                                            compiler_call const& call, fs::path const& includes) {
  std::ostringstream text;
  text << "hull " << version << '\n' << processor() << '\n';
  for (auto const& word : call.command) text << word << ' ';
  bool const cuda = fs::path(call.source).extension() == ".cu";
  std::vector<fs::path> files;
  for (auto const& entry : fs::recursive_directory_iterator(includes / "hull")) {
    bool const used = entry.path().parent_path().filename() != "io" && (cuda || entry.path().extension() != ".cuh");
    if (entry.is_regular_file() && used) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::size_t stamp = 0;
  for (auto const& file : files) stamp = stamp * 31 + std::hash<std::string>{}(slurp(file));
  text << "\nheaders " << stamp << '\n' << driver << header;
  return text.str();
}

/// The program that binds a network to its place: backend, precision, rounding, policy. `ranks` 1: alone.
[[nodiscard]] inline std::string driver_text(options const& o, std::size_t ranks) {
  std::string const rounding = o.rounding == "nearest" ? "hull::Nearest" : "hull::Outward";
  std::string const policy = o.shard == "fully-sharded"     ? "hull::FullySharded"
                             : o.shard == "tensor-parallel" ? "hull::TensorParallel"
                                                            : "hull::Replicated";
  bool const cuda = o.device == "cuda", nccl = ranks > 1 && o.comm == "nccl";
  std::string const backend = cuda ? "hull::cuda::with_host<" + precision_type(o) + ">" : "hull::cpu::backend";
  std::string const place =
      ranks > 1 ? "hull::on<" + backend + ", " + policy + (nccl ? ", hull::Nccl>" : ", hull::AnyCommunicator>")
                : "hull::on<" + backend + ">";
  // only tensor parallelism makes another network for another number of ranks
  std::string const count = o.shard == "tensor-parallel" ? std::to_string(ranks) : "1";
  return "#include \"network.hpp\"\n"
         "#include <hull/" +
         std::string(cuda ? "cuda.cuh" : "hull.hpp") + ">\n" +
         (nccl ? "#include <hull/shard/engine_with.hpp>\n#include <hull/shard/nccl.cuh>\n" : "") +
         "\nusing place = " + place +
         ";\n"
         "using part = place::network<network, " +
         count +
         ">;\n"
         "using verifier = hull::verifier<part, hull::home<part, place, " +
         rounding +
         ">>;\n\n"
         "extern \"C\" [[gnu::visibility(\"default\")]] hull::engine* hull_open_engine(\n"
         "    hull::parameter_source const& source, [[maybe_unused]] hull::AnyCommunicator* ranks) {\n"
         "  return new " +
         (nccl ? "hull::engine_with<verifier, hull::Nccl>" : "verifier") + "(source" + (ranks > 1 ? ", *ranks" : "") +
         ");\n"
         "}\n";
}

/// A network's header and a program that uses it, as an open shared library. It stays open until the program ends:
/// exceptions that it threw may outlive any engine.
class compiled_library final {
 public:
  /// Finds the library in the cache or builds it. `plans`: it will compute no bounds. Throws hull::error (fault::input)
  /// if the cache cannot be written, (fault::device) if the compiler fails or is not there, and deadline_passed.
  compiled_library(std::string const& header, std::string const& driver, options const& asked, bool plans,
                   deadline const& end) {
    fs::path const includes = include_folder();
    fs::path const root = cache_folder(asked.cache);
    compiler_call const call = network_compiler(asked, includes, plans);
    std::string const text = build_text(header, driver, call, includes);
    std::ostringstream name;
    name << std::hex << std::setw(16) << std::setfill('0') << std::hash<std::string>{}(text);
    fs::path const folder = root / name.str();
    if (slurp(folder / "build.txt") != text) build(root, folder, header, driver, call, text, end);
    load(folder / "network.so");
  }

  /// What the library exports under this name.
  template <class Function>
  [[nodiscard]] Function* find(char const* name) const {
    auto* const found = reinterpret_cast<Function*>(dlsym(library_, name));
    if (found == nullptr) throw error(path_ + ": not a compiled network of hull", fault::device);
    return found;
  }

 private:
  /// Removes a folder at the end of its scope.
  class cleaner final {
   public:
    explicit cleaner(fs::path path) : path_(std::move(path)) {}
    cleaner(cleaner const&) = delete;
    cleaner& operator=(cleaner const&) = delete;
    ~cleaner() {
      std::error_code ignored;
      fs::remove_all(path_, ignored);
    }

   private:
    fs::path path_;
  };

  /// Builds in a folder of its own and renames it, so that programs running side by side never see half a library.
  static void build(fs::path const& root, fs::path const& folder, std::string const& header, std::string const& driver,
                    compiler_call const& call, std::string const& text, deadline const& end) {
    fs::path const work = folder.string() + "." + std::to_string(getpid());
    std::error_code failed;
    fs::create_directories(work, failed);
    if (failed) {
      throw error(root.string() + ": cannot write the cache of compiled networks (" + failed.message() +
                  "); set HULL_CACHE_DIR to a folder that can be written");
    }
    cleaner const clean(work);
    write(work / "network.hpp", header);
    write(work / call.source, driver);
    std::vector<std::string> command = call.command;
    command.insert(command.end(), {(work / call.source).string(), "-o", (work / "network.so").string()});
    fs::path const log = work / "compiler.log";
    if (run_process(command, log, end) != 0) {
      fs::path const kept = root / "compiler.log";
      fs::rename(log, kept, failed);
      throw error(
          "the compiler " + command.front() + " failed on the network's header; its output is in " + kept.string(),
          fault::device);
    }
    write(work / "build.txt", text);
    fs::remove_all(folder, failed);
    fs::rename(work, folder, failed);
    if (failed && slurp(folder / "build.txt") != text) {
      throw error(root.string() + ": cannot write the cache of compiled networks (" + failed.message() + ")");
    }
  }

  static void write(fs::path const& path, std::string const& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.flush();
    if (!file) throw error(path.string() + ": cannot write the cache of compiled networks");
  }

  void load(fs::path const& path) {
    library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw error(path.string() + ": cannot load the compiled network", fault::device);
    path_ = path.string();
  }

  void* library_ = nullptr;
  std::string path_;
};

/// The verifier of a network.
class compiled_network final {
 public:
  /// `ranks`: how many work together. Throws as compiled_library does.
  compiled_network(std::string const& header, options const& asked, std::size_t ranks, deadline const& end)
      : library_(header, driver_text(asked, ranks), asked, false, end) {}

  [[nodiscard]] std::unique_ptr<engine> open(parameter_source const& source, AnyCommunicator* ranks) const {
    return std::unique_ptr<engine>(library_.find<open_engine_function>("hull_open_engine")(source, ranks));
  }

 private:
  compiled_library library_;
};

}  // namespace hull::cli
