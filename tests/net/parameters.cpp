// SPDX-License-Identifier: Apache-2.0
// Where the numbers of a network lie, and what is refused.
#include <doctest/doctest.h>
#include <limits>
#include <string>

#include "support/random.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct net final : decltype(Input<3, 5, 5> >> Sub<"mean"> >> Conv<"conv", 4, kernel<2, 2>, groups<1>> >>
                            BatchNormalization<"norm"> >> LeakyRelu<"leaky"> >> Flatten >> Linear<"fc", 2>) {};
struct bare final : decltype(Input<2> >> Relu) {};

std::string refusal(parameter_map const& p) {
  try {
    parameters<net> const read(p);
  } catch (error const& e) {
    CHECK(e.kind() == fault::input);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("slots in order of the nodes, each on a cache line") {
  auto const& slots = parameter_slots<net>;
  static_assert(parameter_slots<net>.size() == 11 && parameter_slots<bare>.empty() && parameters<bare>::size == 0);
  struct {
    char const *layer, *name;
    std::size_t count;
  } const expected[] = {{"mean", "constant", 75}, {"conv", "weight", 48}, {"conv", "bias", 4},
                        {"norm", "scale", 4},     {"norm", "bias", 4},    {"norm", "mean", 4},
                        {"norm", "variance", 4},  {"norm", "epsilon", 1}, {"leaky", "alpha", 1},
                        {"fc", "weight", 128},    {"fc", "bias", 2}};
  std::size_t offset = 0;
  for (std::size_t at = 0; at < slots.size(); ++at) {
    CHECK(slots[at].layer == expected[at].layer);
    CHECK(slots[at].name == expected[at].name);
    CHECK(slots[at].count == expected[at].count);
    CHECK(slots[at].offset == offset);
    offset += (slots[at].count + 15) / 16 * 16;
  }
  CHECK(parameters<net>::size == offset);
}

TEST_CASE("numbers arrive at their elements") {
  auto p = random_parameters<net>(1);
  parameters<net> const read(p);
  for (std::size_t i = 0; i < 75; ++i) CHECK(read.element<1>(i).constant == p.tensors["mean.constant"][i]);
  for (std::size_t i = 0; i < 64; ++i) {
    auto const f = read.element<3>(i);
    CHECK(f.mean == p.tensors["norm.mean"][i / 16]);
    CHECK(f.epsilon == p.tensors["norm.epsilon"][0]);
    CHECK(read.element<4>(i).alpha == p.tensors["leaky.alpha"][0]);
  }
  CHECK(read.tensor<2, 0>()[47] == p.tensors["conv.weight"][47]);
  CHECK(read.tensor<6, 1>()[1] == p.tensors["fc.bias"][1]);
  CHECK(!read.rounded<2>());
  p.rounded = true;
  CHECK(parameters<net>(p).rounded<2>());
  CHECK_NOTHROW(parameters<bare>(parameter_map{}));
}

TEST_CASE("wrong counts and numbers that are none are refused by name") {
  auto const good = random_parameters<net>(2);
  CHECK(refusal(good).empty());
  auto p = good;
  p.tensors["conv.weight"].pop_back();
  CHECK(refusal(p) == "parameter conv.weight has 47 values, the network expects 48");
  p = good;
  p.tensors.erase("fc.bias");
  CHECK(refusal(p) == "parameter fc.bias has 0 values, the network expects 2");
  for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    p = good;
    p.tensors["norm.scale"][3] = bad;
    CHECK(refusal(p) == "parameter norm.scale has a value that is NaN or infinite");
  }
}
