// SPDX-License-Identifier: Apache-2.0
// A verifier of one network behind a plain interface: what a program sees of a network compiled at run time.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include <hull/net/parameters.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

class AnyCommunicator;  // shard/any_communicator.hpp

/// Gives the numbers of the tensor with this key, "fc1.weight".
using parameter_source = std::function<parameter_values(std::string const& key)>;

class engine {
 public:
  engine() = default;
  engine(engine const&) = delete;
  engine& operator=(engine const&) = delete;
  virtual ~engine() = default;

  /// Proves or refutes the specification. `confirm` has the last word on counterexamples.
  [[nodiscard]] virtual verify_report verify(specification const& spec, verify_options const& options,
                                             confirm_function const& confirm) = 0;

  /// Bounds of all stages over the join of the specification's boxes, and of its constraints over their own boxes.
  [[nodiscard]] virtual bounds_report bounds(specification const& spec, verify_options const& options,
                                             std::size_t repeat) = 0;
};

/// The function that a compiled network exports under the name `hull_open_engine`; the caller deletes the engine.
/// `ranks`: those that the engine works with, all of which open one; null for a rank that is alone.
using open_engine_function = engine*(parameter_source const& source, AnyCommunicator* ranks);

}  // namespace hull
