// SPDX-License-Identifier: Apache-2.0
// The program of the three foreign projects: a network is described, bounded and misused with hull::hull alone.
#include <cstdio>
#include <string>
#include <vector>

#include <hull/hull.hpp>

namespace {

struct net final : decltype(hull::Input<1, 4, 4> >> hull::Conv<"conv", 2, hull::kernel<3, 3>> >> hull::Relu >>
                            hull::Flatten >> hull::Linear<"fc1", 4> >> hull::Tanh >> hull::Linear<"fc2", 2>) {};

/// Numbers of some size and both signs.
std::vector<float> numbers(std::size_t count) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i * 7 % 11) / 11 - 0.4f);
  return values;
}

}  // namespace

int main() {
  hull::parameter_table table;
  for (auto const& slot : hull::parameter_slots<net>) {
    table[std::string(slot.layer) + "." + std::string(slot.name)] = numbers(slot.count);
  }
  hull::cpu::bounder<net> bounds(table);
  auto const region = hull::box_around(numbers(16), 0.05);
  auto const wide = bounds.ibp(region), tight = bounds.crown(region);
  for (std::size_t i = 0; i < tight.size(); ++i) std::printf("y_%zu in [%g, %g]\n", i, tight[i].lower, tight[i].upper);
  if (!(hull::width(tight[0]) > 0) || !(hull::width(tight[0]) < hull::width(wide[0]))) return 1;

  try {
    static_cast<void>(bounds.crown(hull::box_around({1.0f}, 1)));
  } catch (hull::error const& caught) {
    return caught.kind() == hull::fault::input ? 0 : 1;
  }
  return 1;
}
