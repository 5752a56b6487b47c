// SPDX-License-Identifier: Apache-2.0
// One rank of several processes; mpirun starts it. Not a doctest program: every rank says what it has to say itself.
//   ranks equal      bounds and searches of both policies equal those of one rank to the bit; TensorParallel's bounds
//                    are near and sound
//   ranks loop       collectives for ever, until another rank is gone
#include <cmath>
#include <cstdio>
#include <string>

#include <hull/shard/mpi.hpp>

#include "../shard/input_search.hpp"
#include "../shard/search.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

std::size_t failures = 0;

void check(bool holds, std::string const& what, Mpi& ranks) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "rank %zu of %zu: %s\n", ranks.rank(), ranks.size(), what.c_str());
}

template <Sharding S, Network Net>
void check_policy(question<Net> const& asked, hidden_bounds method, answer const& expected, Mpi& ranks) {
  using here = on<cpu::backend, S, Mpi>;
  auto const weights = here::template load<Net>(asked.p, ranks);
  typename here::template machine<Net, Outward> machine(here::template join<Net>(weights, ranks));
  auto const found = asked.ask(machine, method, std::size_t{1} << 20);
  check(found == expected,
        std::string(S::name) + " differs from one rank, method " + std::to_string(static_cast<int>(method)), ranks);
}

template <std::size_t P, Network Net>
void check_divided(question<Net> const& asked, answer const& expected, Mpi& ranks) {
  using here = on<cpu::backend, TensorParallel, Mpi>;
  using part = typename here::template network<Net, P>;
  auto const weights = here::template load<part>(asked.p, ranks);
  typename here::template machine<part, Outward> machine(here::template join<part>(weights, ranks));
  propagation<part, decltype(machine)> all(machine);
  box_type const* const view = &asked.box;
  all.run({&view, 1}, hidden_bounds::crown);
  std::vector<row_form> rows;
  for (auto const& form : asked.forms) rows.push_back({0, &form});
  auto const found = all.lower_bounds(rows);
  for (std::size_t r = 0; r < found.size(); ++r) {
    double const size = std::max(0.1, std::fabs(expected.rows[r]));
    check(std::fabs(found[r] - expected.rows[r]) < 2e-4 * size, "tensor-parallel is far from one rank", ranks);
  }
}

template <Network Net>
void check_net(std::size_t seed, Mpi& ranks) {
  question<Net> const asked(seed);
  parameters<Net> const weights(asked.p);
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    cpu::machine<Net, Outward> alone(weights);
    auto const expected = asked.ask(alone, method, std::size_t{1} << 20);
    check_policy<Replicated>(asked, method, expected, ranks);
    check_policy<FullySharded>(asked, method, expected, ranks);
    if (method != hidden_bounds::crown) continue;
    if (ranks.size() == 2) check_divided<2>(asked, expected, ranks);
    if (ranks.size() == 3) check_divided<3>(asked, expected, ranks);
  }
}

/// Branch and bound: the domains that one rank visits, and what it says.
template <Sharding S>
void check_search(parameter_map const& p, specification const& spec, told const& expected, Mpi& ranks) {
  verifier<deep, home<deep, on<cpu::backend, S, Mpi>, Outward>> engine(p, ranks);
  auto const found = ask(engine, p, spec);
  check(found == expected,
        std::string(S::name) + ": another search, " + std::to_string(found.domains) + " domains, one rank visits " +
            std::to_string(expected.domains),
        ranks);
}

void check_searches(Mpi& ranks) {
  auto const p = random_parameters<deep>(51, 1.3);
  for (double const share : {0.05, 0.2}) {
    auto const spec = near_edge(p, share);
    cpu::verifier<deep> alone(p);
    auto const expected = ask(alone, p, spec);
    check_search<Replicated>(p, spec, expected, ranks);
    check_search<FullySharded>(p, spec, expected, ranks);
  }
}

/// The same for input splitting, of which every rank bounds a share.
void check_input_searches(Mpi& ranks) {
  for (auto const& asked : {input_question(0.2, false), input_question(1e-3, true)}) {
    auto const expected = asked.ask_alone();
    auto const found = asked.ask<FullySharded>(ranks);
    check(found == expected, "another input search", ranks);
    check(ranks.size() == 1 || found.bounded < found.domains, "one rank has bounded all boxes", ranks);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Mpi ranks;
  std::string const what = argc > 1 ? argv[1] : "equal";
  std::printf("rank %zu is process %d\n", ranks.rank(), static_cast<int>(getpid()));
  std::fflush(stdout);
  while (what == "loop") static_cast<void>(ranks.any(0));
  check_net<wide>(31, ranks);
  check_net<planes>(32, ranks);
  check_net<residual>(33, ranks);
  check_searches(ranks);
  check_input_searches(ranks);
  return failures == 0 ? 0 : 1;
}
