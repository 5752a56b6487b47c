// SPDX-License-Identifier: Apache-2.0
// Input splitting on several ranks: each bounds a share of the boxes, and all say what one rank says.
#include "input_search.hpp"

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstring>
#include <doctest/doctest.h>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>

#include <hull/search/input_exchange.hpp>

using namespace hull;
using namespace hull::reference;

namespace {

template <Sharding S>
void check_policy(input_question const& asked, settled const& expected, std::size_t ranks) {
  std::mutex one_at_a_time;
  std::size_t bounded = 0, most = 0;
  Loopback::run(ranks, [&](Loopback& others) {
    auto const found = asked.ask<S>(others);
    std::scoped_lock const hold(one_at_a_time);
    INFO(std::string(S::name), ", ranks ", ranks, ", domains ", found.domains, " of ", expected.domains);
    CHECK(found == expected);
    bounded += found.bounded;
    most = std::max(most, found.bounded);
  });
  INFO(std::string(S::name), ", ranks ", ranks, ", of ", bounded, " boxes one rank has bounded ", most);
  CHECK(bounded == expected.domains);
  CHECK(most <= 2 * bounded / (ranks + 1) + 200);  // rounds of few boxes have few parts
}

/// All ranks stop if one of them is out of time, or is told to stop.
template <Sharding S, std::size_t P>
void check_deadline(input_question const& asked) {
  for (bool const flagged : {false, true}) {
    if (flagged && std::same_as<S, TensorParallel>) continue;  // every pass is a collective, as with FullySharded
    std::atomic<bool> flag = false;
    std::atomic<std::size_t> timeouts = 0;
    auto const start = std::chrono::steady_clock::now();
    Loopback::run(P, [&](Loopback& others) {
      deadline end = others.rank() == P - 1 ? deadline(flagged ? 60 : 0.3) : deadline();
      if (others.rank() == P - 1) end.watch(&flag);
      auto const confirm = [&](std::span<double const>) {
        flag = flagged;
        return false;
      };
      auto const found = asked.ask<S, P>(others, confirm, end);
      timeouts += found.answer == verdict::timeout ? 1 : 0;
    });
    CHECK(timeouts == P);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
  }
}

}  // namespace

TEST_CASE("the same boxes, the same answer, and a share for each rank") {
  std::map<verdict, int> seen;
  for (auto const& asked : {input_question(0.05, false), input_question(1e-4, true)}) {
    auto const expected = asked.ask_alone();
    MESSAGE(to_string(expected.answer), " after ", expected.domains, " boxes, margin ", expected.margins.back());
    ++seen[expected.answer];
    CHECK(expected.domains > 500);
    for (std::size_t const ranks : {1, 2, 3, 4, 8}) {
      check_policy<Replicated>(asked, expected, ranks);
      check_policy<FullySharded>(asked, expected, ranks);
    }
  }
  CHECK(seen[verdict::unsat] == 1);
  CHECK(seen[verdict::sat] == 1);
}

TEST_CASE("little memory: small parts, and few bounds of hidden neurons are kept") {
  input_question asked(0.2, false);
  asked.options.memory_budget = std::size_t{1} << 18;
  auto const expected = asked.ask_alone();
  CHECK(expected.answer == verdict::unsat);
  check_policy<Replicated>(asked, expected, 3);
  check_policy<FullySharded>(asked, expected, 3);
}

TEST_CASE("ranks that divide neurons bound all boxes together") {
  for (auto const& asked : {input_question(0.2, false), input_question(1e-3, true)}) {
    auto const expected = asked.ask_alone();
    std::mutex one_at_a_time;
    settled first;
    auto const check = [&](settled const& found) {
      std::scoped_lock const hold(one_at_a_time);
      CHECK(found.answer == expected.answer);
      CHECK(found.bounded == found.domains);
      if (first.domains == 0) first = found;
      CHECK(found == first);
    };
    Loopback::run(2, [&](Loopback& others) { check(asked.ask<TensorParallel, 2>(others)); });
    first = {};
    Loopback::run(3, [&](Loopback& others) { check(asked.ask<TensorParallel, 3>(others)); });
  }
}

TEST_CASE("a deadline or an interrupt of one rank ends the search on all") {
  input_question const asked(1e-9, false);
  check_deadline<Replicated, 3>(asked);
  check_deadline<FullySharded, 3>(asked);
  check_deadline<TensorParallel, 3>(asked);
}

TEST_CASE("an exception on one rank") {
  input_question const asked(1e-3, true);
  auto const run = [&](auto policy) {
    Loopback::run(3, [&](Loopback& others) {
      auto const confirm = [&](std::span<double const> x) {
        if (others.rank() == 1) throw std::bad_alloc();
        return asked.holds(x);
      };
      static_cast<void>(asked.ask<decltype(policy)>(others, confirm));
    });
  };
  CHECK_THROWS_AS(run(Replicated()), std::bad_alloc);
  CHECK_THROWS_AS(run(FullySharded()), std::bad_alloc);
}

TEST_CASE("what travels arrives to the bit, in as many pieces as it takes") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr std::size_t floats = 300000;
  std::vector<double> const odd{-0.0, infinity, -infinity, std::numeric_limits<double>::quiet_NaN(), 0x1p-1074};
  std::vector<free_coordinates> const free{{0, 1}};
  std::vector<row_range> const shares{{0, 2}, {2, 5}, {5, 5}};
  input_domains round(2);
  for (std::size_t i = 0; i < odd.size(); ++i) round.push({}, std::vector<input_range>(2));
  for (std::size_t const late : {3, 1}) {  // there is no rank 3
    std::atomic<std::size_t> same = 0, stopped = 0;
    Loopback::run(3, [&](Loopback& others) {
      parameters<small> const weights(random_parameters<small>(1));
      row_member const member(weights, others);
      input_exchange<std::remove_const_t<decltype(member)>> exchange(member, 2, floats);
      std::vector<input_outcome> outcomes(odd.size());
      std::vector<std::vector<float>> lists(odd.size(), std::vector<float>(floats));
      row_range const mine = shares[others.rank()];
      for (std::size_t i = mine.first; i < mine.last; ++i) {
        outcomes[i] = {i == 1, odd[i], i, {i, odd[i], i != 2}, odd[i], {}};
        if (i != 1) outcomes[i].point = {odd[i], odd[i]};
        std::fill(lists[i].begin(), lists[i].end(), static_cast<float>(i + 1));
      }
      try {
        exchange.give_outcomes(shares, others.rank() == late, round, free, outcomes);
      } catch (deadline_passed const&) {
        ++stopped;
        return;
      }
      exchange.give_lists(shares, [&](std::size_t i) { return i == 3 ? nullptr : lists[i].data(); });
      bool equal = true;
      for (std::size_t i = 0; i < odd.size(); ++i) {
        auto const& one = outcomes[i];
        std::vector<double> numbers = one.point;
        numbers.insert(numbers.end(), {one.bound, one.cut.at, one.value});
        for (double const number : numbers) equal = equal && std::memcmp(&number, &odd[i], sizeof number) == 0;
        equal = equal && one.refuted == (i == 1) && one.point.size() == (i == 1 ? 0 : 2) && one.constraint == i;
        equal = equal && one.cut.coordinate == i && one.cut.possible == (i != 2);
        bool const sent = i != 3 || others.rank() == 1;
        equal = equal && lists[i].back() == (sent ? static_cast<float>(i + 1) : 0.0f);
      }
      same += equal ? 1 : 0;
    });
    CHECK(same == (late == 3 ? 3 : 0));
    CHECK(stopped == (late == 3 ? 0 : 3));
  }
}
