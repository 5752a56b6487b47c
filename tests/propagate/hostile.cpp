// SPDX-License-Identifier: Apache-2.0
// Numbers at the ends of the range: what overflows or is NaN must end as "nothing known", never as a proof; what
// underflows must stay sound.
#include <doctest/doctest.h>

#include "support/exact_sum.hpp"
#include "support/soundness.hpp"

using namespace hull;
using namespace hull::reference;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float least = std::numeric_limits<float>::denorm_min();

struct chain final
    : decltype(Input<3> >> Linear<"a", 4> >> Relu >> Linear<"b", 4> >> Mul<"m"> >> Relu >> Linear<"c", 2>) {};
struct pooled final : decltype(Input<1, 3, 3> >> Conv<"a", 2, kernel<2, 2>> >> MaxPool<kernel<2, 2>> >> Flatten >>
                               Linear<"b", 2> >> Sigmoid) {};
struct linear final : decltype(Input<40> >> Linear<"a", 30> >> Linear<"b", 1>) {};

template <Network Net>
parameter_map filled(float weight, float bias) {
  parameter_map p;
  for (auto const& slot : parameter_slots<Net>) {
    float const value = slot.name == "weight" || slot.name == "constant" ? weight : bias;
    p.tensors[std::string(slot.layer) + '.' + std::string(slot.name)].assign(slot.count, value);
  }
  return p;
}

/// One form for every output and sign, and one over all of them.
std::vector<linear_constraint> signed_forms(std::size_t outputs) {
  std::vector<linear_constraint> forms(1);
  for (std::size_t i = 0; i < outputs; ++i) {
    forms.push_back({{{i, 1.0}}, {}, 0, false});
    forms.push_back({{{i, -1.0}}, {}, 0, false});
    forms[0].outputs.push_back({i, i % 2 == 0 ? 1.0 : -1.0});
  }
  return forms;
}

/// No bound of any kind is +infinity or NaN.
template <class R, Network Net>
std::size_t proofs_from_nothing(parameter_map const& p, box_type const& box,
                                std::vector<linear_constraint> const& forms) {
  std::size_t count = 0;
  for (auto const method : {hidden_bounds::crown, hidden_bounds::interval}) {
    bounded<Net, R> bounds(p, {box}, method);
    auto const rows = bounded<Net, R>::rows(forms, 1);
    for (double const bound : bounds.all().lower_bounds(rows)) count += !(bound < infinity);
    for (double const bound : bounds.all().interval_bounds(rows)) count += !(bound < infinity);
  }
  return count;
}

}  // namespace

TEST_CASE("overflow never proves anything") {
  for (float const weight : {largest, -largest, 1e30f, 1e19f, -1e13f}) {
    for (double const reach : {0.0, 1.0, 1e30, 3e38, 1e300}) {
      for (double const middle : {0.0, 1e30, -3e38, 1e300}) {
        box_type const box(9, {middle - reach, middle + reach}), part(box.begin(), box.begin() + 3);
        for (float const bias : {0.0f, largest}) {
          auto const p = filled<chain>(weight, bias);
          auto const q = filled<pooled>(weight, bias);
          CHECK(proofs_from_nothing<Outward, chain>(p, part, signed_forms(2)) == 0);
          CHECK(proofs_from_nothing<Nearest, chain>(p, part, signed_forms(2)) == 0);
          CHECK(proofs_from_nothing<Outward, pooled>(q, box, signed_forms(2)) == 0);
        }
      }
    }
  }
}

TEST_CASE("bounds that overflow half way hold") {  // in long double these networks do not overflow
  random_engine random(1);
  for (double const gain : {1e10, 1e13, 1e18, 1e30}) {
    auto const p = random_parameters<chain>(1, gain);
    check_sound<chain>(p, {random_box(random, 3, 0.1), random_box(random, 3, 1, 1e8), random_box(random, 3, 0)}, 500, 2,
                       false);
    check_sound<pooled>(random_parameters<pooled>(3, gain),
                        {random_box(random, 9, 0.1), random_box(random, 9, 1, 1e20)}, 500, 2, false);
  }
}

TEST_CASE("forms with coefficients that are no floats") {
  bounded<chain> bounds(random_parameters<chain>(4), {{{-1, 1}, {0, 1}, {1, 1}}}, hidden_bounds::crown);
  double const nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<linear_constraint> forms{
      {{{0, nan}}, {}, 0, false},      {{{0, infinity}}, {}, 0, false},      {{{0, 1e300}}, {}, 0, false},
      {{{0, -1e39}}, {}, 1e300, true}, {{{0, 1.0}}, {}, nan, false},         {{{0, 1.0}}, {{0, nan}}, 0, false},
      {{}, {{2, infinity}}, 0, false}, {{{1, 1.0}}, {{0, 1e300}}, 0, false},
  };
  auto const rows = bounded<chain>::rows(forms, 1);
  for (double const bound : bounds.all().lower_bounds(rows)) CHECK(bound < 0);
  for (double const bound : bounds.all().interval_bounds(rows)) CHECK(bound < 0);

  std::vector<linear_constraint> tiny{{{{0, 1e-50}}, {}, 0, false},
                                      {{{0, 1e-310}, {1, 1e-320}}, {{0, 5e-324}}, 0, true}};
  auto const tiny_rows = bounded<chain>::rows(tiny, 1);
  for (double const bound : bounds.all().lower_bounds(tiny_rows)) CHECK((bound < 0 && bound > -1e-30));
}

TEST_CASE("subnormal numbers") {
  random_engine random(5);
  auto const draw = [&](int lowest, int highest) {
    int const e = lowest + static_cast<int>(random() % static_cast<std::size_t>(highest - lowest + 1));
    return static_cast<float>(std::ldexp(uniform(random, -2, 2), e));
  };
  for (int round = 0; round < 60; ++round) {
    int const down = round < 40 ? -150 + 5 * (round % 8) : -100;  // of the exponents of weights
    parameter_map p;
    auto& a = p.tensors["a.weight"];
    auto& b = p.tensors["b.weight"];
    for (int i = 0; i < 1200; ++i) a.push_back(draw(down, round < 40 ? down + 30 : down));
    // in the end all products of weights lie about the least float, and inputs are large enough to show it
    for (int k = 0; k < 30; ++k)
      b.push_back(round < 20 ? draw(-150, 0) : round < 40 ? draw(-20, 0) : draw(-60 + round % 20, -60 + round % 20));
    p.tensors["a.bias"].assign(30, round % 2 == 0 || round >= 40 ? 0.0f : least);
    p.tensors["b.bias"] = {round % 3 == 0 && round < 40 ? -least : 0.0f};
    box_type box;
    for (int i = 0; i < 40; ++i) {
      double const x = draw(round < 40 ? -140 : 20, 20),
                   y = round % 5 == 0 ? x : double{draw(round < 40 ? -140 : 20, 20)};
      box.push_back({std::min(x, y), std::max(x, y)});
    }
    exact_sum minimum;
    minimum.add(p.tensors["b.bias"][0]);
    for (std::size_t k = 0; k < 30; ++k) minimum.add(b[k], p.tensors["a.bias"][k]);
    for (std::size_t i = 0; i < 40; ++i) {
      exact_sum slope;
      for (std::size_t k = 0; k < 30; ++k) slope.add(b[k], a[k * 40 + i]);
      for (std::size_t k = 0; k < 30; ++k)
        minimum.add(b[k], a[k * 40 + i], slope.sign() > 0 ? box[i].lower : box[i].upper);
    }
    std::vector<linear_constraint> const forms{{{{0, 1.0}}, {}, 0, false}};
    bounded<linear> bounds(p, {box}, hidden_bounds::crown);
    auto const rows = bounded<linear>::rows(forms, 1);
    CHECK(minimum.at_least(bounds.all().lower_bounds(rows)[0]));
    CHECK(minimum.at_least(bounds.all().interval_bounds(rows)[0]));
  }
}

TEST_CASE("dead columns and constant layers") {
  auto p = random_parameters<chain>(6);
  p.tensors["b.weight"].assign(16, 0.0f);
  p.tensors["b.bias"] = {1, -1, 0, 2};
  p.tensors["m.constant"] = {1, 1, 1, 0.5f};
  p.tensors["c.weight"] = {1, 2, 3, 4, -1, -2, -3, -4};
  p.tensors["c.bias"] = {0, 0};
  std::vector<linear_constraint> const forms{
      {{{0, 1.0}}, {}, -5, false}, {{{1, 0.1}}, {}, 0.5, false}, {{{0, 1.0}}, {{0, 2.0}}, 0, true}};
  bounded<chain> bounds(p, {{{-1, 1}, {-1, 1}, {0, 0}}}, hidden_bounds::crown);
  auto const rows = bounded<chain>::rows(forms, 1);
  for (auto const& found : {bounds.all().lower_bounds(rows), bounds.all().interval_bounds(rows)}) {
    double const exact[] = {0, 0.5 - 5 * 0.1, 3};  // the output is (5, -5) everywhere; double's 0.1 is above a tenth
    for (std::size_t r = 0; r < 3; ++r) {
      CHECK(found[r] <= exact[r]);
      CHECK(found[r] == doctest::Approx(exact[r]).epsilon(1e-6));
    }
  }
  CHECK(bounds.stage(2).live_count == 3);  // the constant zero; the others carry the rounding error of their origin
  check_sound<chain>(p, {{{-1, 1}, {-1, 1}, {0, 0}}}, 500, 7);
}

TEST_CASE("rounding to nearest stays close to rounding outward") {
  random_engine random(8);
  std::vector<box_type> const boxes{random_box(random, 9, 0.3), random_box(random, 9, 0.01)};
  auto const p = random_parameters<pooled>(9);
  bounded<pooled, Outward> sound(p, boxes, hidden_bounds::crown);
  bounded<pooled, Nearest> plain(p, boxes, hidden_bounds::crown);
  auto const forms = random_forms(random, 9, 2, true);
  auto const rows = bounded<pooled>::rows(forms, 2);
  auto const outward = sound.all().lower_bounds(rows), nearest = plain.all().lower_bounds(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    CHECK(outward[r] <= nearest[r] + 1e-6 * std::fabs(nearest[r]));
    CHECK(outward[r] == doctest::Approx(nearest[r]).epsilon(1e-4));
  }
}
