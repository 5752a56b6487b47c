// SPDX-License-Identifier: Apache-2.0
// Proofs that the searches find, checked: kink splits (many inputs) and input splits (few).
#include <cmath>
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cpu/verifier.hpp>
#include <hull/io/certificate_file.hpp>
#include <hull/io/check.hpp>
#include <hull/io/counterexample.hpp>
#include <hull/io/evaluate.hpp>
#include <hull/net/network.hpp>

using namespace hull;

namespace {

struct many final
    : decltype(Input<24> >> Linear<"a", 14> >> Relu >> Linear<"b", 12> >> LeakyRelu<"c"> >> Linear<"d", 3>) {};
struct few final
    : decltype(Input<3> >> Linear<"a", 14> >> Relu >> Linear<"b", 12> >> LeakyRelu<"c"> >> Linear<"d", 3>) {};

io::model random_model(std::size_t inputs, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  io::model m;
  m.source = "random";
  m.nodes.push_back({"Input", "", {}, {inputs}, {}, "x"});
  auto const fill = [&](std::string const& key, io::shape shape, double size) {
    io::tensor t{shape, {}, false};
    std::size_t count = 1;
    for (auto const d : shape) count *= d;
    for (; count > 0; --count)
      t.values.push_back(static_cast<float>(std::uniform_real_distribution<double>(-size, size)(random)));
    m.parameters[key] = t;
  };
  auto const linear = [&](std::string const& name, std::size_t in, std::size_t out) {
    m.nodes.push_back(
        {"Linear", name, {m.nodes.size() - 1}, {out}, {{"features", {static_cast<std::int64_t>(out)}}}, name});
    fill(name + ".weight", {out, in}, 1.5 / std::sqrt(static_cast<double>(in) / 3));
    fill(name + ".bias", {out}, 0.3);
  };
  linear("a", inputs, 14);
  m.nodes.push_back({"Relu", "", {1}, {14}, {}, "relu"});
  linear("b", 14, 12);
  m.nodes.push_back({"LeakyRelu", "c", {3}, {12}, {}, "leaky"});
  m.parameters["c.alpha"] = {{1}, {0.125f}, false};
  linear("d", 12, 3);
  return m;
}

/// How a specification is proved.
using prover = std::function<verdict(specification const&, verify_options const&, confirm_function const&)>;

template <Network Net>
using outward = cpu::machine<Net, Outward>;
template <Network Net>
using nearest = cpu::machine<Net, Nearest>;

/// The whole verifier.
template <Network Net>
prover all_of(parameter_source const& source) {
  auto const engine = std::make_shared<cpu::verifier<Net>>(source);
  return [engine](auto const&... asked) { return engine->verify(asked...).answer; };
}

/// Branch and bound over kinks, which cuts the box when the tree grows.
template <Network Net>
prover cutting(parameter_source const& source) {
  auto const weights = std::make_shared<parameters<Net>>(source);
  return [weights](specification const& spec, verify_options const& options, confirm_function const& confirm) {
    outward<Net> machine(*weights);
    problem const asked(spec, graph<Net>::input_size, graph<Net>::output_size);
    options.proof->disjuncts.assign(spec.disjuncts.size(), {});
    branch_and_bound<Net, outward<Net>, nearest<Net>> search(machine, asked, spec, options, confirm,
                                                             deadline(options.timeout), {.batch = 4, .cut_after = 12});
    verify_report report;
    report.margins.resize(asked.rows.size());
    std::vector<std::size_t> open{0, 1};
    try {
      auto const end = search.run(open, report, [](std::vector<std::size_t> const&) { return false; });
      return end == search_end::refuted ? verdict::unsat : verdict::unknown;
    } catch (deadline_passed const&) {
      return verdict::timeout;
    }
  };
}

/// Raises the bar step by step until the property cannot be proved any more; every proof on the way has to pass.
/// `first`: the lowest bar; `most_added`: cuts that the checker may have to add, for every four leaves.
std::size_t climb(std::size_t inputs, bound_method method, double first, std::size_t most_added,
                  prover (*prover_of)(parameter_source const&)) {
  std::size_t branched = 0, proved = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    io::model const m = random_model(inputs, seed);
    auto const source = [&m](std::string const& key) -> parameter_values {
      auto const& t = m.parameters.at(key);
      return {t.values, t.rounded};
    };
    prover const prove = prover_of(source);
    std::vector<input_range> const box(inputs, {-0.5, 0.5});
    for (double bar = first; bar < 4; bar += 0.25) {  // y0 <= bar and y1 <= y2 + bar, or 2 y1 - x0 < bar
      specification const spec{inputs,
                               3,
                               {{box, {{{{0, 1}}, {}, -bar, false}, {{{1, 1}, {2, -1}}, {}, -bar, false}}},
                                {box, {{{{1, 2}}, {{0, -1}}, -bar, true}}}},
                               "spec"};
      certificate proof;
      verify_options options;
      options.method = method;
      options.timeout = 3;
      options.proof = &proof;
      auto const answer =
          prove(spec, options, [&](std::span<double const> x) { return io::satisfies(spec, x, io::evaluate(m, x)); });
      if (answer != verdict::unsat) break;
      auto const subject = io::subject_of(m, "spec");
      auto const completed = io::complete_certificate(m, spec, proof, deadline());
      CAPTURE(seed);
      CAPTURE(bar);
      CAPTURE(completed.reason);
      CHECK(completed.valid);
      CHECK(completed.added * 4 <= most_added * completed.leaves);
      auto const again = io::read_certificate(io::certificate_bytes(proof, subject), "file", subject);
      CHECK(io::check_certificate(m, spec, again).valid);
      branched += proof.disjuncts[0].tree.nodes().size() + proof.disjuncts[1].tree.nodes().size() > 2;
      ++proved;

      // the same proof cannot hold for a bar beyond a value that the network takes
      specification wrong = spec;
      wrong.disjuncts[1].constraints[0].constant = -1e6;
      CHECK(!io::check_certificate(m, wrong, proof).valid);
    }
  }
  MESSAGE(proved << " proofs, " << branched << " of them with splits");
  return branched;
}

}  // namespace

TEST_CASE("proofs with kink splits pass") { CHECK(climb(24, bound_method::branch, -8, 1, all_of<many>) > 0); }
TEST_CASE("proofs of alpha-CROWN pass") {
  static_cast<void>(climb(24, bound_method::alpha_crown, -14, 1, all_of<many>));
}
TEST_CASE("proofs with input splits pass") { CHECK(climb(3, bound_method::automatic, -8, 1, all_of<few>) > 0); }
TEST_CASE("proofs with kink splits in parts of a box pass") {
  CHECK(climb(3, bound_method::branch, -8, 4, cutting<few>) > 0);  // parts keep no rows for hidden neurons
}
