// SPDX-License-Identifier: Apache-2.0
// Layers whose parts on ranks nearly cancel, and what ranks say of them, on any backend.
#pragma once

#include <cstddef>
#include <vector>

#include "ranks.hpp"

namespace hull::reference {

/// One neuron for each of 8 ranks: a coefficient of 1 on the first, and half of its last place on every other, which
/// each addition over ranks loses. What a rank's own product can lose would not pay for it. For inputs of [-1, 1] the
/// exact minimum is -1 - 7 * 2^-24.
struct one_each final : decltype(Input<1> >> Linear<"a", 8> >> Linear<"b", 1>) {};

inline parameter_map one_each_parameters() {
  parameter_map p;
  p.tensors = {{"a.weight", std::vector<float>(8, 0x1p-24f)},
               {"a.bias", std::vector<float>(8, 0.0f)},
               {"b.weight", std::vector<float>(8, 1.0f)},
               {"b.bias", {0}}};
  p.tensors["a.weight"][0] = 1;
  return p;
}

/// What read(propagation, rows), called on each of P ranks with CROWN's bounds of the box and a row for the first
/// output, returns on the first rank.
template <class Backend, Network Net, std::size_t P>
std::vector<double> lower_bounds(parameter_map const& p, box_type const& box, auto read) {
  using here = on<Backend, TensorParallel, Loopback>;
  using part = typename here::template network<Net, P>;
  std::vector<double> found;
  linear_constraint const form{{{0, 1.0}}, {}, 0, false};
  std::vector<row_form> const rows{{0, &form}};
  Loopback::run(P, [&](Loopback& ranks) {
    auto const own = here::template load<part>(p, ranks);
    typename here::template machine<part, Outward> machine(here::template join<part>(own, ranks));
    propagation<part, decltype(machine)> all(machine);
    box_type const* const view = &box;
    all.run({&view, 1}, hidden_bounds::crown);
    auto const bounds = read(all, rows);
    if (ranks.rank() == 0) found = bounds;
  });
  return found;
}

}  // namespace hull::reference
