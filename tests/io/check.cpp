// SPDX-License-Identifier: Apache-2.0
// The checker of certificates: its bounds hold for random models, true proofs pass, and damaged ones are refused.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <hull/io/certificate_file.hpp>
#include <hull/io/check.hpp>
#include <hull/io/evaluate.hpp>

using namespace hull;
using namespace hull::io;

namespace {

using random_engine = std::mt19937_64;

double uniform(random_engine& random, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(random);
}

/// Puts a model together; every call appends a node on the last one and returns its number.
struct builder final {
  model m;
  random_engine random;

  builder(io::shape input, std::uint64_t seed) : random(seed) {
    m.source = "random";
    m.nodes.push_back({"Input", "", {}, std::move(input), {}, "input"});
  }
  io::shape const& shape() const { return m.nodes.back().shape; }
  std::size_t size() const { return reference::elements(shape()); }

  std::size_t put(std::string op, io::shape shape, std::map<std::string, std::vector<std::int64_t>> attributes = {},
                  std::vector<std::size_t> inputs = {}, bool named = false) {
    std::size_t const at = m.nodes.size();
    if (inputs.empty()) inputs = {at - 1};
    std::string const number = std::to_string(at);
    m.nodes.push_back(
        {std::move(op), named ? "n" + number : "", inputs, std::move(shape), std::move(attributes), "t" + number});
    return at;
  }
  void numbers(std::string const& key, io::shape shape, double low, double high, bool rounded = false) {
    tensor t{shape, {}, rounded};
    for (std::size_t i = reference::elements(shape); i > 0; --i)
      t.values.push_back(static_cast<float>(uniform(random, low, high)));
    m.parameters["n" + std::to_string(m.nodes.size() - 1) + "." + key] = std::move(t);
  }
  std::size_t linear(std::size_t out, bool rounded = false) {
    std::size_t const in = size();
    auto const at = put("Linear", {out}, {{"features", {static_cast<std::int64_t>(out)}}}, {}, true);
    double const a = std::sqrt(3 / static_cast<double>(in));
    numbers("weight", {out, in}, -a, a, rounded);
    numbers("bias", {out}, -0.2, 0.2);
    return at;
  }
  std::size_t conv(std::size_t channels, std::int64_t groups) {
    auto const s = shape();
    auto const at = put("Conv", {channels, (s[1] + 1) / 2, s[2]},
                        {{"channels", {static_cast<std::int64_t>(channels)}},
                         {"kernel", {3, 3}},
                         {"stride", {2, 1}},
                         {"pad", {1, 1, 1, 1}},
                         {"groups", {groups}}},
                        {}, true);
    numbers("weight", {channels, s[0] / static_cast<std::size_t>(groups), 3, 3}, -0.5, 0.5);
    numbers("bias", {channels}, -0.2, 0.2);
    return at;
  }
  std::size_t same(std::string op) { return put(std::move(op), shape()); }
  std::size_t constant(std::string op) {
    auto const at = put(std::move(op), shape(), {}, {}, true);
    numbers("constant", shape(), 0.5, 1.5);
    return at;
  }
  std::size_t leaky(double low, double high) {
    auto const at = put("LeakyRelu", shape(), {}, {}, true);
    numbers("alpha", {1}, low, high);
    return at;
  }
};

/// Every operator of the checker appears in one of these.
model random_model(std::size_t kind, std::uint64_t seed) {
  if (kind == 0) {
    builder b({4}, seed);
    b.linear(7, true);
    auto const x = b.same("Relu");
    b.linear(7);
    b.same("Tanh");
    auto const y = b.constant("Mul");
    b.put("Add", {7}, {}, {x, y});
    b.leaky(-0.3, 1.5);
    b.linear(3);
    return b.m;
  }
  if (kind == 1) {
    builder b({2, 6, 5}, seed);
    b.conv(4, 2);
    b.put("BatchNormalization", b.shape(), {}, {}, true);
    for (char const* key : {"scale", "bias", "mean", "variance"}) b.numbers(key, {4}, 0.3, 1.7);
    b.numbers("epsilon", {1}, 1e-5, 2e-5);
    b.same("Relu");
    b.put("MaxPool", {4, 2, 4}, {{"kernel", {2, 2}}, {"stride", {1, 1}}});
    b.same("Relu");
    b.put("AveragePool", {4, 2, 2}, {{"kernel", {1, 2}}, {"stride", {1, 2}}});
    b.put("Flatten", {16});
    b.linear(3);
    return b.m;
  }
  builder b({2, 3, 2}, seed);
  auto const x = b.put("Transpose", {3, 2, 2}, {{"perm", {1, 2, 0}}});
  b.constant("Sub");
  b.constant("Div");
  b.same("Sigmoid");
  auto const y = b.same("Neg");
  b.put("Concat", {6, 2, 2}, {{"axis", {0}}}, {x, y});
  b.put("Slice", {3, 2, 2}, {{"axis", {0}}, {"start", {0}}, {"end", {6}}, {"step", {2}}});
  b.constant("Add");
  b.put("Upsample", {3, 2, 4}, {{"by", {1, 2}}});
  b.put("Spread", {3, 3, 4}, {{"by", {2, 1}}});
  b.same("Relu");
  b.put("GlobalAveragePool", {3, 1, 1});
  b.put("Reshape", {3}, {{"shape", {3}}});
  b.linear(5);
  b.same("Relu");
  b.linear(3);
  return b.m;
}

std::vector<double> sample(random_engine& random, std::vector<input_range> const& box) {
  std::vector<double> x;
  for (auto const& range : box) {
    double const t = uniform(random, -0.3, 1.3);  // corners too
    x.push_back(std::clamp(range.lower + t * (range.upper - range.lower), range.lower, range.upper));
  }
  return x;
}

/// y0 = |x0| + |x1|, y1 = relu(x0) - relu(x0) = 0, which linear bounds cannot see, y2 = x0
model folds() {
  builder b({2}, 1);
  b.linear(6);
  b.same("Relu");
  b.linear(3);
  b.m.parameters["n1.weight"].values = {1, 0, -1, 0, 0, 1, 0, -1, 1, 0, 1, 0};
  b.m.parameters["n1.bias"].values = {0, 0, 0, 0, 0, 0};
  b.m.parameters["n3.weight"].values = {1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, -1, 1, -1, 0, 0, 0, 0};
  b.m.parameters["n3.bias"].values = {0, 0, 0};
  return b.m;
}

std::vector<input_range> const square{{-1, 1}, {-1, 1}};
std::string const spec_text = "the text of the specification";

/// First disjunct: y1 >= 0.25. Second: y0 >= 2.5, which one leaf refutes.
specification two_cases() {
  return {2, 3, {{square, {{{{1, -1}}, {}, 0.25, false}}}, {square, {{{{0, -1}}, {}, 2.5, false}}}}, "spec"};
}

/// Both copies of relu(x0) are split; where their signs differ, the multiplier of a split does it.
certificate two_proofs() {
  certificate proof;
  proof.hints.push_back({{{2, 0}, {2, 4}}, {{1, 0, true, {}}}});
  proof.disjuncts.resize(2);
  auto& tree = proof.disjuncts[0].tree;
  proof.disjuncts[0].hints = 0;
  auto const outer = tree.split_kink(proof_tree::root, {2, 4});
  auto const positive = tree.split_kink(outer, {2, 5});
  auto const negative = tree.split_kink(outer + 1, {2, 5});
  std::vector<float> const alpha{0.5f, 0.25f}, first{0, 1}, none{0, 0};
  tree.refute(positive, 0, alpha, none);
  tree.refute(positive + 1, 0, alpha, first);  // z4 >= 0, z5 <= 0: 0.25 - z4 + z5 = 0.25
  tree.refute(negative, 0, {}, first);         // z4 <= 0, z5 >= 0: 0.25 + z5 - z5 = 0.25
  tree.refute(negative + 1, 0, {}, none);
  proof.disjuncts[1].tree.refute(proof_tree::root, 0);
  return proof;
}

certificate_subject const subject = subject_of(folds(), spec_text);

std::string with_sum(std::string bytes) {
  std::uint64_t const sum = certificate_format::fnv(std::string_view(bytes).substr(0, bytes.size() - 8));
  std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
  return bytes;
}

void refused(certificate const& proof, std::string const& why) {
  auto const report = check_certificate(folds(), two_cases(), proof);
  CHECK(!report.valid);
  CAPTURE(report.reason);
  CHECK(report.reason.find(why) != std::string::npos);
}

}  // namespace

TEST_CASE("values of random models lie within the checker's bounds, forms above theirs") {
  random_engine random(7);
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    model const m = random_model(seed % 3, seed);
    auto const order = expression_order(m);
    check::network const net(m);
    REQUIRE(net.steps().size() == order.size());
    double const radius = seed % 4 == 0 ? 0 : uniform(random, 0.01, 1.0);
    std::vector<input_range> box;
    for (std::size_t i = 0; i < net.inputs(); ++i) {
      double const middle = uniform(random, -1, 1);
      box.push_back({middle - radius, middle + radius});
    }
    // hints and splits at random: all of them are sound
    proof_hints hints;
    std::vector<check::active_split> splits;
    for (std::uint32_t s = 0; s < net.steps().size(); ++s) {
      if (net.steps()[s].kind != check::step_kind::kinked) continue;
      for (std::uint32_t e = 0; e < net.steps()[s].size; ++e) {
        hints.parameters.push_back({s, e});
        if (splits.size() < 3 && random() % 4 == 0)
          splits.push_back({{s, e}, random() % 2 == 0, uniform(random, 0, 0.5)});
      }
    }
    auto const slopes = [&] {
      std::vector<float> list;
      for (std::size_t p = 0; p < hints.parameters.size(); ++p)
        list.push_back(static_cast<float>(uniform(random, 0, 1)));
      return list;
    };
    for (int r = 0; r < 10; ++r) {
      auto const s = static_cast<std::uint32_t>(random() % net.steps().size());
      hints.rows.push_back(
          {s, static_cast<std::uint32_t>(random() % net.steps()[s].size), random() % 2 == 0, slopes()});
    }
    std::vector<linear_constraint> forms;
    std::vector<check::row_parameters> parameters;
    std::vector<std::vector<float>> alphas(4);
    for (std::size_t f = 0; f < 4; ++f) {
      alphas[f] = f == 0 ? std::vector<float>{} : slopes();
      forms.push_back({{{0, uniform(random, -1, 1)}, {2, uniform(random, -1, 1)}}, {}, uniform(random, -1, 1), false});
      if (f == 2) forms.back().inputs = {{0, 0.7}, {1, -0.4}, {0, 0.1}};
      parameters.push_back(
          {alphas[f], f == 3 ? std::span<check::active_split const>(splits) : std::span<check::active_split const>{}});
    }
    std::vector<linear_constraint const*> views;
    for (auto const& form : forms) views.push_back(&form);
    check::bounds const bounds(net, box, &hints, true);
    auto const lower = bounds.lower_bounds(views, parameters);
    for (int i = 0; i < 300; ++i) {
      auto const x = sample(random, box);
      auto const all = evaluate_all(m, x);
      for (std::size_t s = 0; s < order.size(); ++s) {
        for (std::size_t e = 0; e < all[order[s]].size(); ++e) {
          double const value = all[order[s]][e], room = 1e-13 * (1 + std::fabs(value));  // of the evaluation
          REQUIRE(value >= bounds.lower(s)[static_cast<Eigen::Index>(e)] - room);
          REQUIRE(value <= bounds.upper(s)[static_cast<Eigen::Index>(e)] + room);
        }
      }
      bool const split_holds = std::all_of(splits.begin(), splits.end(), [&](auto const& one) {
        double const z = all[order[net.steps()[one.where.node].inputs[0]]][one.where.element];
        return one.positive ? z >= 0 : z <= 0;
      });
      for (std::size_t f = 0; f < forms.size(); ++f) {
        if (f == 3 && !split_holds) continue;
        double value = forms[f].constant;
        for (term const& t : forms[f].outputs) value += t.coefficient * all.back()[t.index];
        for (term const& t : forms[f].inputs) value += t.coefficient * x[t.index];
        REQUIRE(value >= lower[f] - 1e-12);
        REQUIRE(value >= bounds.interval_bound(forms[f]) - 1e-12);
      }
    }
  }
}

TEST_CASE("a true proof passes, also after it was written and read") {
  auto const report = check_certificate(folds(), two_cases(), two_proofs());
  CAPTURE(report.reason);
  CHECK(report.valid);
  CHECK(report.leaves == 5);
  CHECK(report.boxes == 2);  // the same box, with hints and without
  auto const again = read_certificate(certificate_bytes(two_proofs(), subject), "file", subject);
  CHECK(check_certificate(folds(), two_cases(), again).valid);
  CHECK(certificate_bytes(again, subject) == certificate_bytes(two_proofs(), subject));
}

TEST_CASE("input splits cover the box, whatever the plane") {
  specification spec{
      2, 3, {{square, {{{{0, 1}}, {{0, -2}}, 0.25, false}}}}, "spec"};  // |x0| + |x1| + 0.25 <= 2 x0: false
  spec.disjuncts[0].box = {{-1, 0.2}, {0, 1}};
  certificate proof;
  proof.disjuncts.resize(1);
  auto& tree = proof.disjuncts[0].tree;
  auto const half = tree.split_input(proof_tree::root, 0, 0.0);
  tree.refute(half, 0);
  tree.refute(half + 1, 0);
  CHECK(check_certificate(folds(), spec, proof).valid);
  spec.disjuncts[0].box[0].upper = 0.3;  // now 0.3 + 0.25 <= 0.6 has a solution
  CHECK(!check_certificate(folds(), spec, proof).valid);
  spec.disjuncts[0].box[0].upper = 0.2;
  tree.node(0).number = 5;
  CHECK(check_certificate(folds(), spec, proof).reason.find("input that is not there") != std::string::npos);
}

TEST_CASE("a leaf that is not proved is cut by complete_certificate, and only by that") {
  specification const spec{
      2, 3, {{{{-1, 1}, {0.5, 1}}, {{{{0, 1}}, {{0, 1}}, -0.4, false}}}}, "spec"};  // |x0| + x0 + x1 <= 0.4
  certificate proof;
  proof.disjuncts.resize(1);
  proof.disjuncts[0].tree.refute(proof_tree::root, 0);
  bool const at_once = check_certificate(folds(), spec, proof).valid;
  auto const report = complete_certificate(folds(), spec, proof, deadline());
  CHECK(report.valid);
  CHECK((report.added > 0) == !at_once);
  CHECK(check_certificate(folds(), spec, proof).valid);
}

TEST_CASE("a damaged proof is refused") {
  auto const leaf_of = [](certificate& proof, std::uint32_t at) -> proof_node& {
    return proof.disjuncts[0].tree.node(at);
  };
  certificate proof = two_proofs();
  leaf_of(proof, 3).what = proof_node::kind::open;
  refused(proof, "no proof");
  CHECK_THROWS_AS(static_cast<void>(certificate_bytes(proof, subject)), error);
  proof = two_proofs();
  leaf_of(proof, 4).beta = {0, -1};
  refused(proof, "multiplier");
  leaf_of(proof, 4).beta = {0, std::numeric_limits<float>::infinity()};
  refused(proof, "multiplier");
  leaf_of(proof, 4).beta = {0};
  refused(proof, "number of multipliers");
  leaf_of(proof, 4).beta = {0, 0.5f};
  refused(proof, "not refuted");
  proof = two_proofs();
  for (float const bad : {-0.01f, 1.01f, std::numeric_limits<float>::quiet_NaN()}) {
    leaf_of(proof, 3).alpha = {0.5f, bad};
    refused(proof, "slope");
  }
  leaf_of(proof, 3).alpha = {0.5f};
  refused(proof, "number of slopes");
  proof = two_proofs();
  leaf_of(proof, 5).number = 1;
  refused(proof, "constraint that is not there");
  proof = two_proofs();
  leaf_of(proof, 0).number = 1;
  refused(proof, "not a Relu");
  proof = two_proofs();
  leaf_of(proof, 0).children = 0;
  refused(proof, "no tree");
  proof = two_proofs();
  proof.disjuncts.pop_back();
  refused(proof, "disjuncts");
  proof = two_proofs();
  proof.disjuncts[0].hints = 9;
  refused(proof, "hints");
  proof = two_proofs();
  proof.hints[0].rows[0].element = 77;
  refused(proof, "not there");
  proof = two_proofs();
  proof.disjuncts[0].tree = {};
  proof.disjuncts[0].tree.refute(proof_tree::root, 0);  // true, but this is no proof of it
  refused(proof, "not refuted");
}

TEST_CASE("a damaged file is refused, for another model or specification too") {
  std::string const bytes = certificate_bytes(two_proofs(), subject);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    CHECK_THROWS_AS(static_cast<void>(read_certificate(bad, "file", subject)), error);
    CHECK_THROWS_AS(static_cast<void>(read_certificate(bytes.substr(0, i), "file", subject)), error);
  }
  CHECK_THROWS_AS(static_cast<void>(read_certificate(bytes + "x", "file", subject)), error);
  model other = folds();
  other.parameters["n1.bias"].values[0] = 1e-9f;
  CHECK_THROWS_WITH(static_cast<void>(read_certificate(bytes, "file", subject_of(other, spec_text))),
                    "file: is about another model");
  CHECK_THROWS_WITH(static_cast<void>(read_certificate(bytes, "file", subject_of(folds(), spec_text + ' '))),
                    "file: is about another specification");
}

TEST_CASE("no file harms the checker, even one whose sum is right") {
  std::string const bytes = certificate_bytes(two_proofs(), subject);
  random_engine random(3);
  for (std::size_t i = 0; i < 20000; ++i) {
    std::string bad = bytes;
    for (std::size_t k = 1 + random() % 3; k > 0; --k) bad[random() % bad.size()] = static_cast<char>(random());
    if (i % 5 == 0) bad.resize(8 + random() % (bad.size() - 8));
    try {
      auto const proof = read_certificate(with_sum(bad), "file", subject);
      static_cast<void>(check_certificate(folds(), two_cases(), proof));  // the property holds: either answer is right
    } catch (error const&) {
    }
  }
  // of a property that does not hold nothing may ever pass
  specification open = two_cases();
  open.disjuncts[1].constraints[0].constant = 1.9;  // y0 >= 1.9 has a solution
  for (std::size_t i = 0; i < 5000; ++i) {
    std::string bad = bytes;
    for (std::size_t k = 1 + random() % 3; k > 0; --k)
      bad[60 + random() % (bad.size() - 60)] = static_cast<char>(random());
    bool valid = false;
    try {
      valid = check_certificate(folds(), open, read_certificate(with_sum(bad), "file", subject)).valid;
    } catch (error const&) {
    }
    CHECK(!valid);
  }
}
