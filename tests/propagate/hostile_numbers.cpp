// SPDX-License-Identifier: Apache-2.0
// The law of propagation under hostile numbers: parameters and boxes of all magnitudes side by side, ties, zeros of
// both signs, boxes of one float. HULL_HOSTILE_ROUNDS=n runs more rounds than the usual few.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <doctest/doctest.h>
#include <limits>

#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

struct curves final
    : decltype(Input<5> >> Linear<"a", 4> >> LeakyRelu<"l"> >> Div<"d"> >> BatchNormalization<"n"> >> Linear<"b", 4> >>
               Tanh >> Mul<"m"> >> Sub<"s"> >> Linear<"c", 3> >> Sigmoid >> Linear<"e", 2>) {};
struct image final
    : decltype(Input<2, 4, 4> >> Conv<"a", 4, kernel<2, 2>, pad<1, 0, 1, 1>, dilation<1, 2>, groups<2>> >>
               BatchNormalization<"n"> >> Relu >> MaxPool<kernel<2, 2>, stride<1, 2>, pad<1, 1, 0, 0>> >>
               AveragePool<kernel<2, 2>, pad<1, 0, 0, 1>, exclude_pad> >> MaxPool<kernel<2, 1>> >> Flatten >>
               Linear<"b", 2> >> Tanh) {};
inline constexpr auto input = Input<6>;
inline constexpr auto trunk = input >> Linear<"a", 6> >> Relu;
inline constexpr auto twice = trunk + trunk;
struct shared final
    : decltype(Concat<0>(twice - trunk, trunk >> Slice<0, 1, 5, 2>, trunk >> Slice<0, 1, 5, 2>, input) >>
               LeakyRelu<"l"> >> Linear<"b", 3> >> Neg >> Relu >> Linear<"c", 2>) {};

constexpr float largest = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();

template <class T>
T pick(random_engine& random, std::initializer_list<T> from) {
  return *(from.begin() + static_cast<std::ptrdiff_t>(random() % from.size()));
}

/// 2^k times an ordinary number, or one of the values where things break.
float number(random_engine& random, int lowest, int highest) {
  if (random() % 8 == 0) return pick(random, {0.0f, -0.0f, least, -least, 1.0f, -1.0f, 0.1f, 0x1p-126f});
  int const e = lowest + static_cast<int>(random() % static_cast<std::size_t>(highest - lowest + 1));
  return std::clamp(static_cast<float>(std::ldexp(uniform(random, -2, 2), e)), -largest, largest);
}

/// Each tensor has its own range of exponents; a third of all are tame, so that overflow does not hide everything.
template <Network Net>
parameter_map hostile_parameters(random_engine& random) {
  parameter_map p = random_parameters<Net>(random());
  for (auto const& slot : parameter_slots<Net>) {
    auto& values = p.tensors[std::string(slot.layer) + '.' + std::string(slot.name)];
    int const middle = pick(random, {-149, -120, -60, -20, 0, 0, 20, 60, 127}), span = pick(random, {0, 3, 30});
    bool const tame = random() % 3 == 0, tied = random() % 4 == 0;
    for (float& value : values) {
      if (!tame) value = number(random, std::max(-149, middle - span), std::min(127, middle + span));
      if (tied) value = values[0];
      if (slot.name == "variance") value = std::fabs(value);
      if (slot.name == "epsilon") value = pick(random, {1e-5f, 1e-12f, least, 1.0f});
      if (slot.name == "alpha")
        value = pick(random, {-3.0f, -0.5f, -0.0f, 0.0f, least, 0.01f, 1.0f, 1.5f, 1e30f, value});
      if (slot.name == "constant" && slot.layer == "d" && value == 0) value = least;
    }
  }
  return p;
}

box_type hostile_box(random_engine& random, std::size_t inputs) {
  int const middle = pick(random, {-149, -120, -40, 0, 0, 0, 30, 100, 127});
  double const width = pick(random, {0.0, 1e-45, 1e-7, 0.1, 1.0, 1e20, 1e38});
  box_type box;
  for (std::size_t i = 0; i < inputs; ++i) {
    double const at = number(random, middle, middle);
    double const half = random() % 3 == 0 ? 0 : width * uniform(random, 0, 1);
    switch (random() % 8) {
      case 0:
        box.push_back({-0.0, 0.0});
        break;
      case 1:
        box.push_back({at, std::nextafter(at, 1e300)});
        break;
      case 2:
        box.push_back({-std::fabs(at), std::fabs(at)});
        break;
      default:
        box.push_back({at - half, at + half});
    }
  }
  return box;
}

/// The climbed bounds of alpha-CROWN hold too. Returns the share of them that say something.
template <Network Net>
double check_climbed(parameter_map const& p, box_type const& box, random_engine& random) {
  bounded<Net> bounds(p, {box}, hidden_bounds::alpha_crown);
  auto const forms = random_forms(random, graph<Net>::input_size, graph<Net>::output_size, true);
  auto const rows = bounded<Net>::rows(forms, 1);
  auto const lower = bounds.all().climbed_bounds(rows);
  std::vector<std::vector<int>> const signs(1, std::vector<int>(box.size(), 0));
  breaches broken;
  for (std::size_t n = 0; n < 60; ++n) {
    auto const x = sample(random, box, signs, n);
    auto const values = evaluate<Net>(p, x);
    for (std::size_t f = 0; f < forms.size(); ++f) {
      long double const value = value_of(forms[f], values.back().data, x);
      broken.expect(!(value < lower[f]), "form below its climbed bound, row", f, value, lower[f]);
      broken.expect(lower[f] < std::numeric_limits<double>::infinity(), "infinite bound, row", f, lower[f], 0);
    }
  }
  INFO(broken.first);
  CHECK(broken.count == 0);
  auto const finite = std::count_if(lower.begin(), lower.end(), [](double bound) { return std::isfinite(bound); });
  return static_cast<double>(finite) / static_cast<double>(lower.size());
}

template <Network Net>
double attack_bounds(std::size_t seed) {
  CAPTURE(seed);
  random_engine random(seed);
  auto const p = hostile_parameters<Net>(random);
  std::vector<box_type> boxes;
  for (int b = 0; b < 3; ++b) boxes.push_back(hostile_box(random, graph<Net>::input_size));
  check_sound<Net>(p, boxes, 90, seed, false);
  return check_climbed<Net>(p, boxes[0], random);
}

}  // namespace

TEST_CASE("hostile numbers") {
  char const* const more = std::getenv("HULL_HOSTILE_ROUNDS");
  std::size_t const rounds = more == nullptr ? 300 : std::strtoul(more, nullptr, 10);
  double informative[3] = {};
  for (std::size_t round = 0; round < rounds; ++round) {
    informative[0] += attack_bounds<curves>(3 * round);
    informative[1] += attack_bounds<image>(3 * round + 1);
    informative[2] += attack_bounds<shared>(3 * round + 2);
  }
  for (double const share : informative) CHECK(share > 0.3 * static_cast<double>(rounds));
}
