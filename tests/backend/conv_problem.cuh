// SPDX-License-Identifier: Apache-2.0
// Convolutions of many shapes on the device: their stages with live columns chosen at random, exact sums, and running
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/propagate/rounding_error.hpp>

#include "support/uploaded.cuh"

namespace hull::reference {

namespace gpu = hull::cuda;  // libcu++ has a namespace cuda, too

struct shape final {
  std::string name;
  std::size_t in, height, width, out;
  window filter;
};

template <class... Options>
shape make_shape(std::string name, std::size_t in, std::size_t height, std::size_t width, std::size_t out) {
  return {std::move(name), in, height, width, out, make_window<Options...>()};
}

/// Together: 1, 3, 5, 16, 64 channels and more; all strides, paddings, dilations, groups that kernels treat apart.
inline std::vector<shape> const& shapes() {
  static std::vector<shape> const all{
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("3 to 16", 3, 13, 11, 16),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("16 to 64", 16, 8, 8, 64),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("64 to 64", 64, 6, 6, 64),
      make_shape<kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>>("32 to 64, stride", 32, 9, 9, 64),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("80 to 24", 80, 5, 5, 24),
      make_shape<kernel<1, 1>>("pointwise", 64, 5, 7, 16),
      make_shape<kernel<1, 1>, stride<2, 2>>("pointwise, stride", 16, 7, 6, 5),
      make_shape<kernel<5, 3>, stride<2, 1>, pad<2, 0, 1, 2>>("5 to 5", 5, 12, 9, 5),
      make_shape<kernel<3, 3>, stride<2, 2>, pad<0, 1, 1, 0>, dilation<2, 2>>("dilation and stride", 3, 14, 15, 5),
      make_shape<kernel<3, 3>, pad<2, 2, 2, 2>, dilation<2, 2>>("dilation", 5, 9, 10, 16),
      make_shape<kernel<3, 5>, stride<3, 2>, pad<0, 3, 2, 1>, dilation<1, 2>>("uneven", 3, 17, 16, 7),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>, groups<2>>("two groups", 16, 7, 7, 10),
      make_shape<kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>, groups<4>>("four groups", 16, 9, 8, 64),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>, groups<8>>("depthwise", 8, 10, 10, 8),
      make_shape<kernel<4, 4>, stride<4, 4>>("patches", 3, 16, 16, 20),
      make_shape<kernel<2, 2>, stride<3, 3>>("gaps", 2, 11, 8, 3),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("one to one", 1, 1, 5, 1),
      make_shape<kernel<3, 3>, pad<1, 1, 1, 1>>("small plane", 16, 2, 2, 32),
      make_shape<kernel<2, 3>, stride<2, 2>, pad<0, 1, 0, 1>>("whole plane", 16, 2, 3, 64),
  };
  return all;
}

/// One stage, live columns chosen at random, on both sides.
struct stage_copy final {
  std::vector<index_t> live, slot;
  std::vector<float> centre, spread;
  stage_state host, device;
  uploaded<index_t> device_slot, device_live;
  uploaded<float> device_centre, device_spread;

  static std::vector<index_t> choose(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<index_t> chosen;
    for (std::size_t i = 0; i < size; ++i) {
      if (random() % 5 != 0) chosen.push_back(static_cast<index_t>(i));
    }
    return chosen;
  }
  static std::vector<index_t> slots(std::size_t size, std::vector<index_t> const& live) {
    std::vector<index_t> slot(size, stage_state::dead);
    for (std::size_t c = 0; c < live.size(); ++c) slot[live[c]] = static_cast<index_t>(c);
    return slot;
  }
  static std::vector<float> numbers(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = std::ldexp(normal(random), static_cast<int>(random() % 8) - 4);
    return values;
  }

  stage_copy(std::size_t size, std::size_t batch, unsigned seed)
      : live(choose(size, seed)),
        slot(slots(size, live)),
        centre(numbers(batch * size, seed + 1)),
        spread(numbers(batch * size, seed + 2)),
        device_slot(slot),
        device_live(live),
        device_centre(centre),
        device_spread(spread) {
    for (float& value : spread) value = std::fabs(value);
    gpu::check(cudaMemcpy(device_spread.get(), spread.data(), spread.size() * sizeof(float), cudaMemcpyHostToDevice),
               "upload");
    host.size = device.size = size;
    host.live_count = device.live_count = live.size();
    host.live = live.data(), host.slot = slot.data(), host.centre = centre.data(), host.spread = spread.data();
    device.live = device_live.get(), device.slot = device_slot.get();
    device.centre = device_centre.get(), device.spread = device_spread.get();
  }
  stage_copy(stage_copy const&) = delete;
};

inline constexpr std::size_t batch = 3;

struct problem final {
  shape const& s;
  extents in, out;
  std::vector<float> weight, bias;
  uploaded<float> device_weight, device_bias;
  stage_copy x, y;
  cpu::conv_weights host;
  gpu::conv_weights device;

  explicit problem(shape const& of)
      : s(of),
        in(make_extents(s.in, s.height, s.width)),
        out(make_extents(s.out, s.filter.out_h(in), s.filter.out_w(in))),
        weight(stage_copy::numbers(s.out * (s.in / s.filter.groups) * s.filter.area(), 11)),
        bias(stage_copy::numbers(s.out, 12)),
        device_weight(weight),
        device_bias(bias),
        x(in.size(), batch, 21),
        y(out.size(), batch, 31),
        host{weight.data(), bias.data(), s.filter, in, out, true},
        device{device_weight.get(), device_bias.get(), s.filter, in, out, true} {}

  /// Calls f(output element, input element, weight) for every term of the convolution.
  template <class F>
  void for_terms(F&& f) const {
    std::size_t const ins = s.in / s.filter.groups, outs = s.out / s.filter.groups;
    for (std::size_t o = 0; o < s.out; ++o) {
      for (std::size_t i = 0; i < out[1]; ++i) {
        for (std::size_t j = 0; j < out[2]; ++j) {
          for (std::size_t t = 0; t < ins * s.filter.area(); ++t) {
            std::size_t const c = o / outs * ins + t / s.filter.area();
            std::size_t const p = t % s.filter.area() / s.filter.kernel_w, q = t % s.filter.kernel_w;
            std::size_t const line = i * s.filter.stride_h + p * s.filter.dilation_h;
            std::size_t const column = j * s.filter.stride_w + q * s.filter.dilation_w;
            if (line < s.filter.top || line - s.filter.top >= in[1]) continue;
            if (column < s.filter.left || column - s.filter.left >= in[2]) continue;
            f((o * out[1] + i) * out[2] + j, (c * in[1] + line - s.filter.top) * in[2] + column - s.filter.left,
              weight[o * ins * s.filter.area() + t]);
          }
        }
      }
    }
  }

  /// Rows over the live outputs: dense, 0 outside a window, or one coefficient only.
  [[nodiscard]] std::vector<float> rows(std::size_t count, unsigned seed) const {
    std::vector<float> a = stage_copy::numbers(count * y.live.size(), seed);
    for (std::size_t r = 0; r < count; ++r) {
      if (r % 3 == 0) continue;
      std::size_t const top = r % out[1], left = r * 7 % out[2], edge = r % 3 == 1 ? 3 : 1;
      for (std::size_t c = 0; c < y.live.size(); ++c) {
        std::size_t const i = y.live[c] / out[2] % out[1], j = y.live[c] % out[2];
        if (i < top || i >= top + edge || j < left || j >= left + edge) a[r * y.live.size() + c] = 0;
      }
    }
    return a;
  }
};

struct sums final {
  std::vector<double> value, magnitude;
};

/// `values` [rows, live] through the terms, in double; `backward`: from outputs to inputs.
inline sums exact(problem const& p, bool backward, std::size_t rows, std::vector<float> const& values,
                  std::vector<float> const* old) {
  stage_copy const &from = backward ? p.y : p.x, &to = backward ? p.x : p.y;
  std::size_t const ins = from.live.size(), outs = to.live.size();
  sums result{std::vector<double>(rows * outs), std::vector<double>(rows * outs)};
  if (old != nullptr) {
    for (std::size_t i = 0; i < rows * outs; ++i) {
      result.value[i] = (*old)[i];
      result.magnitude[i] = std::fabs((*old)[i]);
    }
  }
  p.for_terms([&](std::size_t output, std::size_t input, float weight) {
    index_t const source = from.slot[backward ? output : input], target = to.slot[backward ? input : output];
    if (source == stage_state::dead || target == stage_state::dead) return;
    for (std::size_t r = 0; r < rows; ++r) {
      double const term = static_cast<double>(weight) * values[r * ins + source];
      result.value[r * outs + target] += term;
      result.magnitude[r * outs + target] += std::fabs(term);
    }
  });
  return result;
}

/// Numbers that are further from the exact sums than `roundings` allow.
inline std::size_t misses(sums const& exact, std::vector<float> const& found, std::size_t roundings) {
  std::size_t count = 0;
  double const share = gamma(roundings, unit_float) + 1e-12;  // the sums in double round, too
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!(std::fabs(found[i] - exact.value[i]) <= share * exact.magnitude[i] + 1e-40)) ++count;
  }
  return count;
}

inline bool same(float const* x, float const* y, std::size_t count) {
  return count == 0 || std::memcmp(x, y, count * sizeof(float)) == 0;
}

template <gpu::conv_numbers Numbers = gpu::conv_numbers::floats>
std::vector<float> backward_on_device(problem const& p, std::size_t rows, std::vector<float> const& a_y,
                                      std::vector<float> const& old) {
  uploaded<float> const from(a_y), to(old);
  // what is in the scratch must not matter
  uploaded<float> const scratch(std::vector<float>(gpu::conv_scratch_floats(p.in, p.out, p.s.filter), NAN));
  float largest = 0;
  for (float const w : p.weight) largest = std::max(largest, std::fabs(w));
  gpu::conv_backward<Numbers>(nullptr, p.device, rows, p.y.device, from.get(), p.x.device, to.get(), scratch.get(),
                              largest);
  return to.read();
}

}  // namespace hull::reference
