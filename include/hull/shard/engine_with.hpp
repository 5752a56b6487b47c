// SPDX-License-Identifier: Apache-2.0
// An engine together with the ranks it works with, where those are made inside a compiled network.
#pragma once

#include <cstddef>

#include <hull/search/engine.hpp>
#include <hull/shard/any_communicator.hpp>

namespace hull {

/// `Ranks` is made from the communicator of the program; `Verifier` from a parameter_source and the ranks.
template <class Verifier, Communicator Ranks>
class engine_with final : public engine {
 public:
  /// Borrows `launcher`. All ranks do so together.
  engine_with(parameter_source const& source, AnyCommunicator& launcher)
      : ranks_(launcher), verifier_(source, ranks_) {}

  [[nodiscard]] verify_report verify(specification const& spec, verify_options const& options,
                                     confirm_function const& confirm) override {
    return verifier_.verify(spec, options, confirm);
  }
  [[nodiscard]] bounds_report bounds(specification const& spec, verify_options const& options,
                                     std::size_t repeat) override {
    return verifier_.bounds(spec, options, repeat);
  }

 private:
  Ranks ranks_;
  Verifier verifier_;
};

}  // namespace hull
