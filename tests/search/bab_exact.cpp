// SPDX-License-Identifier: Apache-2.0
// Branch and bound over kinks against exact minima of random networks, with specifications at the edge: what holds or
// fails by 1e-4 of the output's range is decided, and rightly. HULL_TEST_NETWORKS=200 takes 200 networks.
#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>

#include <hull/search/bab.hpp>

#include "support/exact_minimum.hpp"
#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct two final : decltype(Input<2> >> Linear<"a", 20> >> Relu >> Linear<"b", 20> >> Relu >> Linear<"z", 2>) {};
struct three final : decltype(Input<2> >> Linear<"a", 20> >> Relu >> Linear<"b", 20> >> Relu >> Linear<"c", 20> >>
                              Relu >> Linear<"z", 2>) {};
struct four final : decltype(Input<2> >> Linear<"a", 9> >> Relu >> Linear<"b", 9> >> LeakyRelu<"s"> >> Linear<"c", 9> >>
                             Relu >> Linear<"d", 9> >> Relu >> Linear<"z", 2>) {};
struct five final : decltype(Input<2> >> Linear<"a", 10> >> Relu >> Linear<"b", 10> >> Relu >> Linear<"c", 10> >>
                             Relu >> Linear<"d", 10> >> Relu >> Linear<"e", 10> >> Relu >> Linear<"z", 2>) {};
struct solid final : decltype(Input<3> >> Linear<"a", 12> >> Relu >> Linear<"b", 12> >> Relu >> Linear<"z", 2>) {};
struct solid4 final : decltype(Input<4> >> Linear<"a", 6> >> Relu >> Linear<"b", 6> >> Relu >> Linear<"z", 3>) {};

struct tally final {
  std::size_t networks = 0, wrong = 0, given_up = 0, branched = 0, cut = 0;
};

/// One random network; one disjunct with a minimum above or below zero by a share of the range.
template <Network Net>
void decide(std::size_t seed, branch_options const& how, tally& sum) {
  constexpr std::size_t inputs = graph<Net>::input_size, outs = graph<Net>::output_size;
  random_engine random(seed);
  auto const p = random_parameters<Net>(seed);
  linear_constraint form;
  for (std::size_t o = 0; o < outs; ++o) form.outputs.push_back({o, uniform(random, -1, 1)});
  specification spec{inputs, outs, {{random_box(random, inputs, 1.0, 1.5), {form}}}, "test"};
  auto& constraint = spec.disjuncts[0].constraints[0];

  exact_minimum<Net> exact(p);
  auto negative = spec.disjuncts[0];
  for (auto& t : negative.constraints[0].outputs) t.coefficient = -t.coefficient;
  long double const least = exact(spec.disjuncts[0]), most = -exact(negative);
  long double const share = seed % 4 == 0 ? -1e-4L : seed % 4 == 1 ? 1e-2L : 1e-4L;
  // single precision sees no less than 1e-4 of numbers near 1, however small the range is
  constraint.constant = static_cast<double>(share * std::max(most - least, 1.0L) - least);

  parameters<Net> const weights(p);
  cpu::machine<Net, Outward> machine(weights);
  problem const asked(spec, inputs, outs);
  verify_options options;
  options.memory_budget = std::size_t{1} << 26;
  confirm_function const confirm = [&](std::span<double const> x) {
    std::vector<long double> const at(x.begin(), x.end());
    return value_of(constraint, evaluate<Net>(p, at).back().data, at) <= 0;
  };
  verify_report report;
  report.margins.assign(1, -1e300);
  std::vector<std::size_t> open{0};
  branch_and_bound<Net, cpu::machine<Net, Outward>, cpu::machine<Net, Nearest>> bab(machine, asked, spec, options,
                                                                                    confirm, deadline(60), how);
  auto const end = bab.run(open, report, [](std::vector<std::size_t> const&) { return false; });
  ++sum.networks;
  sum.wrong += end == (share > 0 ? search_end::counterexample : search_end::refuted);
  sum.given_up += end == search_end::gave_up;
  sum.branched += report.domains > 1;
  sum.cut += report.domains > how.cut_after;
}

void decide_all(std::size_t first, std::size_t count, branch_options const& how) {
  tally sum;
  for (std::size_t seed = first; seed < first + count; ++seed) {
    switch (seed / 4 % 6) {
      case 0:
        decide<two>(seed, how, sum);
        break;
      case 1:
        decide<three>(seed, how, sum);
        break;
      case 2:
        decide<four>(seed, how, sum);
        break;
      case 3:
        decide<five>(seed, how, sum);
        break;
      case 4:
        decide<solid>(seed, how, sum);
        break;
      default:
        decide<solid4>(seed, how, sum);
        break;
    }
  }
  MESSAGE(sum.networks << " networks, " << sum.branched << " with splits, " << sum.cut << " with cut boxes");
  CHECK(sum.wrong == 0);
  CHECK(sum.given_up == 0);
  CHECK(sum.branched * 2 > sum.networks);
}

}  // namespace

TEST_CASE("verdicts at the edge agree with exact minima") {
  char const* const more = std::getenv("HULL_TEST_NETWORKS");
  decide_all(1, more != nullptr ? std::strtoul(more, nullptr, 10) : 24, {});
}

TEST_CASE("and so they do when boxes are cut early, and with a small batch") {
  decide_all(301, 24, {.batch = 3, .deep_from = 2, .cut_after = 10});
}
