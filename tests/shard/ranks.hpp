// SPDX-License-Identifier: Apache-2.0
// Networks whose matrices fall into several blocks (HULL_BLOCK_BYTES is small for these tests), and all that a
// propagation over them tells.
#pragma once

#include <cstring>
#include <vector>

#include <hull/backend/cpu/divided_machine.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/shard/loopback.hpp>
#include <hull/shard/on.hpp>

#include "support/random.hpp"

namespace hull::reference {

struct wide final : decltype(Input<30> >> Linear<"a", 75> >> Relu >> Linear<"b", 61> >> Relu >> Linear<"c", 37> >>
                             Relu >> Linear<"d", 5>) {};

struct planes final : decltype(Input<2, 6, 6> >> Conv<"a", 5, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                               Conv<"b", 4, kernel<3, 3>, stride<2, 2>> >> Relu >> Flatten >> Linear<"c", 41> >> Relu >>
                               Linear<"d", 3>) {};

// (version 14 takes these arrows for comparisons)
// clang-format off
struct pooled final : decltype(Input<2, 6, 6> >> Conv<"a", 8, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu >>
                               Conv<"b", 8, kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>> >> Relu >>
                               MaxPool<kernel<2, 2>, stride<2, 2>> >> Flatten >> Linear<"c", 21> >> Relu >>
                               Linear<"d", 3>) {};
constexpr auto trunk = Input<20> >> Linear<"a", 53> >> Relu;
struct residual final : decltype(((trunk >> Linear<"b", 53> >> LeakyRelu<"slope">) + trunk) >> Linear<"c", 29> >> Tanh >>
                                 Linear<"d", 31> >> Relu >> Linear<"e", 4>) {};
// clang-format on

/// Every interval and every bound of the forms.
struct answer final {
  std::vector<float> intervals;
  std::vector<double> rows;

  [[nodiscard]] friend bool operator==(answer const& a, answer const& b) {  // to the bit
    auto const same = [](auto const& x, auto const& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0;
    };
    return same(a.intervals, b.intervals) && same(a.rows, b.rows);
  }
};

template <Network Net>
struct question final {
  parameter_map p;
  box_type box;
  std::vector<box_type> more;  // beside `box`, where a method takes several
  std::vector<linear_constraint> forms;

  explicit question(std::size_t seed) : p(random_parameters<Net>(seed)) {
    random_engine random(seed + 1);
    box = random_box(random, graph<Net>::input_size, 0.15);
    forms = random_forms(random, graph<Net>::input_size, graph<Net>::output_size, true);
    for (double const radius : {0.05, 0.0}) more.push_back(random_box(random, graph<Net>::input_size, radius));
  }

  [[nodiscard]] std::vector<box_type const*> boxes(hidden_bounds method) const {
    std::vector<box_type const*> all{&box};
    if (method == hidden_bounds::alpha_crown) return all;
    for (auto const& other : more) all.push_back(&other);
    return all;
  }

  template <class M>
  [[nodiscard]] answer ask(M& machine, hidden_bounds method, std::size_t row_bytes) const {
    propagation<Net, M> all(machine, row_bytes);
    auto const asked = boxes(method);
    all.run(asked, method, {.steps = 6});
    answer found;
    auto const& seen = machine.on_host(all.state());
    for (auto const& s : seen.stage) {
      found.intervals.insert(found.intervals.end(), s.lower, s.lower + asked.size() * s.size);
      found.intervals.insert(found.intervals.end(), s.upper, s.upper + asked.size() * s.size);
    }
    std::vector<row_form> rows;
    for (std::size_t b = 0; b < asked.size(); ++b) {
      for (auto const& form : forms) rows.push_back({static_cast<index_t>(b), &form});
    }
    found.rows = method == hidden_bounds::interval      ? all.interval_bounds(rows)
                 : method == hidden_bounds::alpha_crown ? all.climbed_bounds(rows, {.steps = 6})
                                                        : all.lower_bounds(rows);
    return found;
  }
};

}  // namespace hull::reference
