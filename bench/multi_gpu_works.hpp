// SPDX-License-Identifier: Apache-2.0
// Networks of bench/multi_gpu.cu, and numbers for them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/net/network.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/specification.hpp>

namespace works {

using namespace hull;

/// Weights are normal with variance gain^2 2 / fan-in, biases normal. Inputs move by `radius` of a network.
struct distribution final {
  double gain = 1, last_gain = 1, side_gain = 1;  // of a block's first conv, its second, the one beside both
  double bias = 0, bias_spread = 0;               // of all layers but the last
};

// NOLINTBEGIN(readability-identifier-naming)
template <std::size_t W>
struct wide4 : decltype(Input<784> >> Linear<"l0", W> >> Relu >> Linear<"l1", W> >> Relu >> Linear<"l2", W> >> Relu >>
                        Linear<"l3", W> >> Relu >> Linear<"l4", 10>) {
  static constexpr distribution numbers{};
};
struct random_4x4096 final : wide4<4096> {
  static constexpr double radius = 0.001;
};
struct random_4x8192 final : wide4<8192> {
  static constexpr double radius = 0.0005;
};
struct random_4x16384 final : wide4<16384> {
  static constexpr double radius = 0.0003;
};

// clang-format off
template <fixed_string First, fixed_string Second, std::size_t C, std::size_t Step, class X>
constexpr auto two_convs(X x) {
  return x >> Conv<First, C, kernel<3, 3>, stride<Step, Step>, pad<1, 1, 1, 1>> >> Relu >>
         Conv<Second, C, kernel<3, 3>, pad<1, 1, 1, 1>>;
}
template <fixed_string First, fixed_string Second, std::size_t C, class X>
constexpr auto block(X x) {
  return (two_convs<First, Second, C, 1>(x) + x) >> Relu;
}
template <fixed_string First, fixed_string Second, fixed_string Side, std::size_t C, class X>
constexpr auto halving_block(X x) {
  return (two_convs<First, Second, C, 2>(x) + (x >> Conv<Side, C, kernel<1, 1>, stride<2, 2>>)) >> Relu;
}
constexpr auto eight_blocks() {
  constexpr auto stem = Input<3, 32, 32> >> Conv<"stem", 64, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
  constexpr auto a = block<"a3", "a4", 64>(block<"a1", "a2", 64>(stem));
  constexpr auto b = block<"b3", "b4", 128>(halving_block<"b1", "b2", "b0", 128>(a));
  constexpr auto c = block<"c3", "c4", 128>(halving_block<"c1", "c2", "c0", 128>(b));
  return block<"d3", "d4", 256>(halving_block<"d1", "d2", "d0", 256>(c));
}
// clang-format on

/// The shape of VNN-COMP's CIFAR100_resnet_large, batch normalisation folded: 508,004 neurons, 3.8 million parameters.
/// Not trained: with these gains and biases CROWN leaves 4.4 % of the neurons unstable, few in the first layers and all
/// in the last hidden one.
struct resnet_large final : decltype(eight_blocks() >> Flatten >> Linear<"l0", 100> >> Relu >> Linear<"l1", 100>) {
  static constexpr distribution numbers{
      .gain = 0.8, .last_gain = 0.4, .side_gain = 0.7, .bias = -0.1, .bias_spread = 0.3};
  static constexpr double radius = 1.0 / 255;
};
// NOLINTEND(readability-identifier-naming)

// Made-up numbers. Each depends on its place only, so that any number of threads and ranks makes the same.

/// Steele et al. 2014, the finaliser of SplitMix64.
constexpr std::uint64_t scrambled(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}
constexpr std::uint64_t name_of(std::string const& key) {
  std::uint64_t h = 0;
  for (char const c : key) h = scrambled(h ^ static_cast<unsigned char>(c));
  return h;
}

/// Two normal numbers from one hash (Box and Muller 1958).
inline std::pair<float, float> two_normals(std::uint64_t hash) {
  constexpr float unit = 1.0f / (1 << 24), turn = 6.2831853f;
  float const size = std::sqrt(-2 * std::log(static_cast<float>((hash >> 40) + 1) * unit));
  float const angle = turn * static_cast<float>(hash & 0xffffff) * unit;
  return {size * std::cos(angle), size * std::sin(angle)};
}

/// Parameters of a network `net`, made when they are asked for.
template <class net>
class source final {
 public:
  [[nodiscard]] parameter_values operator()(std::string const& key) const {
    auto const& slots = parameter_slots<net>;
    for (std::size_t at = 0; at < slots.size(); ++at) {
      if (key != std::string(slots[at].layer) + "." + std::string(slots[at].name)) continue;
      if (slots[at].name == "weight") {  // [out, fan-in], before bias [out]
        auto const fan_in = static_cast<double>(slots[at].count) / static_cast<double>(slots[at + 1].count);
        fill(key, slots[at].count, 0, gain(slots[at].layer) * std::sqrt(2 / fan_in));
      } else {
        bool const last = at + 1 == slots.size();
        fill(key, slots[at].count, last ? 0 : net::numbers.bias, last ? 0 : net::numbers.bias_spread);
      }
      return {values_};
    }
    return {};
  }

 private:
  static double gain(std::string_view layer) {
    if (layer[0] == 'l') return 1;
    bool const second = layer[1] == '2' || layer[1] == '4';
    return layer[1] == '0' ? net::numbers.side_gain : second ? net::numbers.last_gain : net::numbers.gain;
  }
  void fill(std::string const& key, std::size_t count, double mean, double spread) const {
    values_.assign(count, static_cast<float>(mean));
    if (spread == 0) return;
    std::uint64_t const stream = name_of(key);
    auto const centre = static_cast<float>(mean), unit = static_cast<float>(spread);
    constexpr std::size_t grain = 1 << 14;
    cpu::parallel_ranges(count, grain, 20, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; i += 2) {  // `first` is even
        auto const [one, other] = two_normals(scrambled(stream + i));
        values_[i] = centre + unit * one;
        if (i + 1 < last) values_[i + 1] = centre + unit * other;
      }
    });
  }

  mutable std::vector<float> values_;
};

template <class net>
std::vector<input_range> made_up_box() {
  std::vector<input_range> box(graph<net>::input_size);
  for (std::size_t i = 0; i < box.size(); ++i) {
    double const centre = std::ldexp(static_cast<double>(scrambled(i) >> 11), -53);
    box[i] = {centre - net::radius, centre + net::radius};
  }
  return box;
}

}  // namespace works
