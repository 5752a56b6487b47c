// SPDX-License-Identifier: Apache-2.0
// A new pointwise operator in one place: all that hull has to know about HardTanh is the struct below.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

#include <hull/hull.hpp>

using namespace hull;

/// t cut off at -1 and 1. Three straight pieces: f(t) - slope t is extreme at an end of the box or at a corner of f,
/// so for any slope the least and largest of these four values are sound biases. Only tightness depends on the slopes.
struct hard_tanh_t final {
  static constexpr std::string_view name = "HardTanh";
  static constexpr auto parameters = no_parameters;
  using element = hard_tanh_t;

  template <class T>
  [[nodiscard]] HULL_FN T eval(T x) const {
    return x < T(-1) ? T(-1) : x > T(1) ? T(1) : x;
  }

  [[nodiscard]] HULL_FN interval<float> image(interval<float> box) const {
    if (is_empty(box)) return everything<float>();
    return {eval(box.lower), eval(box.upper)};
  }

  [[nodiscard]] HULL_FN lines<float> relax(interval<float> box) const {
    if (is_empty(box) || !is_finite(box)) return unknown_lines();
    if (box.lower >= -1 && box.upper <= 1) return {{1, 0}, {1, 0}};
    if (box.upper <= -1 || box.lower >= 1) return {{0, eval(box.lower)}, {0, eval(box.lower)}};
    float const first = box.lower > -1 ? box.lower : -1, last = box.upper < 1 ? box.upper : 1;  // the sloped piece
    float const above = chord_slope({box.lower, last}, value(box.lower), value(last));
    float const below = chord_slope({first, box.upper}, value(first), value(box.upper));
    auto const biases = [&](float slope) {
      return narrow(join(chord_rest(box, value(box.lower), value(box.upper), slope),
                         chord_rest({first, last}, value(first), value(last), slope)));
    };
    return {{below, biases(below).lower}, {above, biases(above).upper}};
  }

  [[nodiscard]] HULL_FN bool linear_on(interval<float> box) const {
    return (box.lower >= -1 && box.upper <= 1) || box.upper <= -1 || box.lower >= 1;
  }

 private:
  [[nodiscard]] HULL_FN interval<double> value(float t) const { return point(static_cast<double>(eval(t))); }
};
inline constexpr hard_tanh_t HardTanh{};
static_assert(Pointwise<hard_tanh_t>);

struct net final : decltype(Input<3> >> Linear<"fc1", 8> >> HardTanh >> Linear<"fc2", 1>) {};

int main() {
  std::mt19937 random(7);
  auto const unit = [&random] { return static_cast<float>(random() % 2001) / 1000 - 1; };
  std::vector<float> w1(24), b1(8), w2(8), b2(1);
  for (auto* tensor : {&w1, &b1, &w2, &b2}) std::generate(tensor->begin(), tensor->end(), unit);
  cpu::bounder<net> bounds(parameter_table{{"fc1.weight", w1}, {"fc1.bias", b1}, {"fc2.weight", w2}, {"fc2.bias", b2}});
  auto const region = box_around({0.5f, -0.25f, 0}, 0.25);
  auto const ibp = bounds.ibp(region)[0], crown = bounds.crown(region)[0];

  std::size_t outside = 0;  // of the bounds: none of many points of the box, evaluated in double
  for (int sample = 0; sample < 100000; ++sample) {
    double x[3], y = static_cast<double>(b2[0]);
    for (std::size_t i = 0; i < 3; ++i)
      x[i] = (region[i].lower + region[i].upper) / 2 + static_cast<double>(unit()) / 4;
    for (std::size_t h = 0; h < 8; ++h) {
      double t = static_cast<double>(b1[h]);
      for (std::size_t i = 0; i < 3; ++i) t += static_cast<double>(w1[3 * h + i]) * x[i];
      y += static_cast<double>(w2[h]) * HardTanh.eval(t);
    }
    outside += y < crown.lower || y > crown.upper;
  }
  std::printf("y_0 in [%.4f, %.4f] by intervals, in [%.4f, %.4f] by CROWN\n", ibp.lower, ibp.upper, crown.lower,
              crown.upper);
  std::printf("%zu of 100000 samples outside\n", outside);
  return outside == 0 && crown.upper - crown.lower < ibp.upper - ibp.lower ? 0 : 1;
}
