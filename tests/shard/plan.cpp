// SPDX-License-Identifier: Apache-2.0
// The plan is a constant, what it adds up to is what the arena takes, and what ranks share shrinks with their number.
#include <doctest/doctest.h>

#include <hull/shard/memory_plan.hpp>

#include "ranks.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

template <Sharding S>
using place = on<cpu::backend, S, Loopback>;

template <Sharding S, hidden_bounds Method, std::size_t P>
void check_plan(question<wide> const& asked) {
  using here = place<S>;
  using net = typename here::template network<wide, P>;
  Loopback::run(P, [&](Loopback& ranks) {
    auto const weights = here::template load<net>(asked.p, ranks);
    typename here::template machine<net, Outward> machine(here::template join<net>(weights, ranks));
    propagation<net, decltype(machine)> all(machine, std::size_t{1} << 18);
    box_type const* const view = &asked.box;
    all.run({&view, 1}, Method, {.steps = 1});
    auto const plan = memory_plan<wide, Method, here, P>(
        {.row_bytes = std::size_t{1} << 18, .threads = decltype(machine)::threads()});
    if (machine.memory().peak() != plan.arena_bytes()) throw error("the arena differs from the plan");
  });
}

template <Sharding S>
void check_policy() {
  question<wide> const asked(41);
  check_plan<S, hidden_bounds::crown, 2>(asked);
  check_plan<S, hidden_bounds::alpha_crown, 2>(asked);
  check_plan<S, hidden_bounds::crown, 3>(asked);
  check_plan<S, hidden_bounds::interval, 3>(asked);
}

struct large final : decltype(Input<784> >> Linear<"a", 4096> >> Relu >> Linear<"b", 4096> >> Relu >>
                              Linear<"c", 4096> >> Relu >> Linear<"d", 4096> >> Relu >> Linear<"e", 10>) {};

template <Sharding S, std::size_t P, hidden_bounds Method>
constexpr double share = static_cast<double>(memory_plan<large, Method, place<S>, P>().peak_bytes()) /
                         static_cast<double>(memory_plan<large, Method, on<cpu::backend>>().peak_bytes());

}  // namespace

TEST_CASE("the arena takes what is planned") {
  check_policy<Replicated>();
  check_policy<FullySharded>();
  check_policy<TensorParallel>();
}

// a user's tool
static_assert(memory_plan<large, hidden_bounds::crown, on<cpu::backend>>().peak_bytes() < std::size_t{1} << 29);
static_assert(share<FullySharded, 2, hidden_bounds::crown> < 0.55 &&
              share<FullySharded, 8, hidden_bounds::crown> < 0.2);
static_assert(share<TensorParallel, 2, hidden_bounds::crown> < 0.55 &&
              share<TensorParallel, 8, hidden_bounds::crown> < 0.2);
static_assert(share<FullySharded, 2, hidden_bounds::alpha_crown> < 0.55 &&
              share<FullySharded, 8, hidden_bounds::alpha_crown> < 0.2);
static_assert(share<TensorParallel, 2, hidden_bounds::alpha_crown> < 0.55 &&
              share<TensorParallel, 8, hidden_bounds::alpha_crown> < 0.2);
static_assert(sharded_bytes<large>(2).at_rest() * 100 <= parameters<large>::size * sizeof(float) * 51);
static_assert(sharded_bytes<large>(8).at_rest() * 1000 <= parameters<large>::size * sizeof(float) * 135);
