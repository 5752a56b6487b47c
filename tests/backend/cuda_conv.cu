// SPDX-License-Identifier: Apache-2.0
// Conv on the device against exact sums and against the CPU, for many shapes; equal to the bit from run to run, and for
// a row alone and among others.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/points.hpp>
#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/half_product.cuh>
#include <hull/propagate/rounding_error.hpp>
#include <hull/scalar/rounding.hpp>

#include "support/uploaded.cuh"

using namespace hull;
using hull::reference::uploaded;
namespace gpu = hull::cuda;  // libcu++ has a namespace cuda, too

namespace {

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
std::vector<shape> const& shapes() {
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

constexpr std::size_t batch = 3;

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
sums exact(problem const& p, bool backward, std::size_t rows, std::vector<float> const& values,
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
std::size_t misses(sums const& exact, std::vector<float> const& found, std::size_t roundings) {
  std::size_t count = 0;
  double const share = gamma(roundings, unit_float) + 1e-12;  // the sums in double round, too
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!(std::fabs(found[i] - exact.value[i]) <= share * exact.magnitude[i] + 1e-40)) ++count;
  }
  return count;
}

/// The same for halfs: what precision.cuh and product_cost.cuh state, element by element.
std::size_t half_misses(problem const& p, std::size_t rows, std::vector<float> const& a_y, sums const& exact,
                        std::vector<float> const& found) {
  std::size_t const ins = p.x.live.size(), outs = p.y.live.size();
  std::size_t const roundings = gpu::conv_roundings(p.out, p.s.filter) + gpu::conv_additions(p.out, p.s.filter);
  double const chain = gpu::half_order::chain_error(chain_terms);
  double const share =
      chain + (1 + chain) * gamma(roundings - gpu::conv_in_chain(p.out, p.s.filter), unit_float) + 1e-12;
  double const terms = static_cast<double>(gpu::conv_terms(p.out, p.s.filter));
  double b_max = 0;
  for (float const w : p.weight) b_max = std::max<double>(b_max, std::fabs(w));
  std::size_t count = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    double a_max = 0;
    for (std::size_t k = 0; k < outs; ++k) a_max = std::max<double>(a_max, std::fabs(a_y[r * outs + k]));
    double const range = 2 * gpu::half_order::range_error * a_max * b_max * terms;
    double const floor =
        terms * (gpu::half_order::product_floor + gpu::half_order::operand_floor * (a_max + b_max)) + 0x1p-149;
    for (std::size_t i = r * ins; i < (r + 1) * ins; ++i) {
      if (!(std::fabs(found[i] - exact.value[i]) <= share * exact.magnitude[i] + range + floor)) ++count;
    }
  }
  return count;
}

bool same(float const* x, float const* y, std::size_t count) {
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

std::vector<float> points_on_device(problem const& p, std::size_t rows, std::vector<float> const& d_x) {
  uploaded<float> const from(d_x), to(std::vector<float>(rows * p.y.live.size(), NAN));
  uploaded<float> const scratch(std::vector<float>(gpu::conv_scratch_floats(p.in, p.out, p.s.filter), NAN));
  gpu::conv_points(nullptr, p.device, rows, p.x.device, from.get(), p.y.device, to.get(), scratch.get());
  return to.read();
}

}  // namespace

TEST_CASE("conv_backward is within its stated error, and independent of what runs beside a row") {
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    std::size_t const ins = p.x.live.size(), outs = p.y.live.size(), most = 200;
    std::vector<float> const a_y = p.rows(most, 41), old = stage_copy::numbers(most * ins, 42);
    std::vector<float> const all = backward_on_device(p, most, a_y, old);
    std::size_t const roundings = gpu::conv_roundings(p.out, s.filter) + gpu::conv_additions(p.out, s.filter);
    CHECK(misses(exact(p, true, most, a_y, &old), all, roundings) == 0);

    std::vector<float> on_cpu = old;
    std::vector<float> scratch(cpu::conv_packed_floats(p.in, p.out, s.filter) +
                               cpu::thread_count() * cpu::conv_thread_floats(p.in, p.out, s.filter));
    cpu::conv_backward(p.host, most, p.y.host, a_y.data(), p.x.host, on_cpu.data(), scratch.data());
    std::size_t far = 0;
    for (std::size_t i = 0; i < all.size(); ++i) far += std::fabs(all[i] - on_cpu[i]) > 1e-3f * (1 + std::fabs(all[i]));
    CHECK(far == 0);

    std::vector<float> const again = backward_on_device(p, most, a_y, old);
    CHECK(same(all.data(), again.data(), all.size()));
    for (std::size_t const rows : {std::size_t{1}, std::size_t{3}, std::size_t{17}}) {
      for (std::size_t const first : {std::size_t{0}, std::size_t{1}, std::size_t{98}, std::size_t{180}}) {
        std::vector<float> const few(a_y.begin() + first * outs, a_y.begin() + (first + rows) * outs);
        std::vector<float> const few_old(old.begin() + first * ins, old.begin() + (first + rows) * ins);
        std::vector<float> const found = backward_on_device(p, rows, few, few_old);
        CHECK(same(found.data(), all.data() + first * ins, rows * ins));
      }
    }
  }
}

TEST_CASE("conv_backward with halfs is within its stated error, and independent of what runs beside a row") {
  constexpr auto halfs = gpu::conv_numbers::halfs;
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    std::size_t const ins = p.x.live.size(), outs = p.y.live.size(), most = 40;
    std::vector<float> a_y = p.rows(most, 41), old = stage_copy::numbers(most * ins, 42);
    std::mt19937 random(7);
    for (std::size_t r = 0; r < most; ++r) {  // huge, tiny, subnormal, and of all sizes at once
      int const size = r % 8 == 1 ? 100 : r % 8 == 2 ? -100 : r % 8 == 3 ? -130 : r % 8 == 4 ? -143 : 0;
      for (std::size_t k = r * outs; k < (r + 1) * outs; ++k) {
        a_y[k] = std::ldexp(a_y[k], r % 8 == 5 ? static_cast<int>(random() % 60) - 30 : size);
      }
      if (size != 0) std::fill(old.begin() + r * ins, old.begin() + (r + 1) * ins, 0.0f);
      if (r % 16 == 7) std::fill(a_y.begin() + r * outs, a_y.begin() + (r + 1) * outs, 0.0f);
    }
    std::vector<float> const all = backward_on_device<halfs>(p, most, a_y, old);
    CHECK(half_misses(p, most, a_y, exact(p, true, most, a_y, &old), all) == 0);
    std::vector<float> const again = backward_on_device<halfs>(p, most, a_y, old);
    CHECK(same(all.data(), again.data(), all.size()));
    for (std::size_t const rows : {std::size_t{1}, std::size_t{5}}) {
      for (std::size_t const first : {std::size_t{0}, std::size_t{9}, std::size_t{33}}) {
        std::vector<float> const few(a_y.begin() + first * outs, a_y.begin() + (first + rows) * outs);
        std::vector<float> const few_old(old.begin() + first * ins, old.begin() + (first + rows) * ins);
        std::vector<float> const found = backward_on_device<halfs>(p, rows, few, few_old);
        CHECK(same(found.data(), all.data() + first * ins, rows * ins));
      }
    }

    // a row with NaN, and one with infinity: nothing that they reach is a number, and no other row changes
    for (float const bad : {NAN, INFINITY}) {
      std::vector<float> broken = a_y;
      broken[6 * outs + outs / 2] = bad;
      std::vector<float> const found = backward_on_device<halfs>(p, most, broken, old);
      sums const wanted = exact(p, true, most, broken, &old);
      std::size_t numbers = 0;
      for (std::size_t i = 6 * ins; i < 7 * ins; ++i)
        numbers += !std::isfinite(wanted.value[i]) && std::isfinite(found[i]);
      CHECK(numbers == 0);
      CHECK(same(found.data(), all.data(), 6 * ins));
      CHECK(same(found.data() + 7 * ins, all.data() + 7 * ins, (most - 7) * ins));
    }
  }
}

TEST_CASE("conv_backward keeps NaN, and the sign of zeros that it does not reach") {
  problem const p(shapes()[0]);
  std::size_t const ins = p.x.live.size(), outs = p.y.live.size();
  std::vector<float> a_y(2 * outs, 0.0f);
  a_y[outs / 2] = NAN;
  std::vector<float> const found = backward_on_device(p, 2, a_y, std::vector<float>(2 * ins, -0.0f));
  bool nan = false, kept = true;
  for (std::size_t i = 0; i < ins; ++i) {
    nan = nan || std::isnan(found[i]);
    kept = kept && found[ins + i] == 0 && std::signbit(found[ins + i]);
  }
  CHECK(nan);
  CHECK(kept);
}

TEST_CASE("conv_backward in several chunks") {
  shape const s = make_shape<kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>>("chunks", 1, 256, 256, 16);
  problem const p(s);
  std::size_t const rows = gpu::make_conv_plan(p.in, p.out, s.filter, true).chunk_rows() + 3;
  std::size_t const ins = p.x.live.size(), outs = p.y.live.size();
  REQUIRE(rows < 200);
  std::vector<float> const a_y = p.rows(rows, 41), old(rows * ins, 0.5f);
  std::vector<float> const all = backward_on_device(p, rows, a_y, old);
  std::vector<float> const last(a_y.begin() + (rows - 1) * outs, a_y.end());
  std::vector<float> const found = backward_on_device(p, 1, last, std::vector<float>(ins, 0.5f));
  CHECK(same(found.data(), all.data() + (rows - 1) * ins, ins));
  std::vector<float> const first(a_y.begin(), a_y.begin() + outs);
  std::vector<float> const head(all.begin(), all.begin() + ins), old_head(ins, 0.5f);
  CHECK(misses(exact(p, true, 1, first, &old_head), head,
               gpu::conv_roundings(p.out, s.filter) + gpu::conv_additions(p.out, s.filter)) == 0);
}

TEST_CASE("conv_seed is that of the CPU") {
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    for (std::size_t const count : {std::size_t{1}, std::size_t{17}, std::size_t{200}}) {
      std::mt19937 random(5);
      std::vector<index_t> index(count);
      std::vector<float> sign(count);
      for (std::size_t r = 0; r < count; ++r) {
        index[r] = static_cast<index_t>(random() % p.out.size());
        sign[r] = random() % 2 == 0 ? 1.0f : -1.0f;
      }
      uploaded<index_t> const device_index(index);
      uploaded<float> const device_sign(sign);
      row_block host, device;
      host.count = device.count = count;
      host.index = index.data(), host.sign = sign.data();
      device.index = device_index.get(), device.sign = device_sign.get();
      std::vector<float> wanted(count * p.x.live.size(), 0.0f);
      uploaded<float> const a(wanted);
      cpu::conv_seed(p.host, host, p.x.host, wanted.data());
      gpu::conv_seed(nullptr, p.device, device, p.x.device, a.get());
      CHECK(a.read() == wanted);
    }
  }
}

TEST_CASE("conv_points is the convolution") {
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    std::size_t const roundings = 40 + s.in / s.filter.groups * s.filter.area();
    for (std::size_t const rows : {std::size_t{1}, std::size_t{3}, std::size_t{17}, std::size_t{200}}) {
      std::vector<float> const d_x = stage_copy::numbers(rows * p.x.live.size(), 51);
      std::vector<float> const found = points_on_device(p, rows, d_x);
      CHECK(misses(exact(p, false, rows, d_x, nullptr), found, roundings) == 0);

      std::vector<float> on_cpu(found.size());
      std::vector<float> scratch(cpu::conv_point_packed_floats(p.in, p.out, s.filter) +
                                 cpu::thread_count() * cpu::conv_point_thread_floats(p.in, p.out, s.filter));
      cpu::conv_points(p.host, rows, p.x.host, d_x.data(), p.y.host, on_cpu.data(), scratch.data());
      std::size_t far = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        far += std::fabs(found[i] - on_cpu[i]) > 1e-3f * (1 + std::fabs(found[i]));
      }
      CHECK(far == 0);
      std::vector<float> const again = points_on_device(p, rows, d_x);
      CHECK(same(found.data(), again.data(), found.size()));
    }
  }
}

TEST_CASE("conv_forward gives the CPU's intervals, added up in another order") {
  for (shape const& s : shapes()) {
    CAPTURE(s.name);
    problem const p(s);
    std::size_t const all = batch * p.out.size(), terms = p.host.taps() + 1, each = p.host.positions();
    std::vector<float> lower(all), upper(all), radius(all), error(all);
    std::vector<double> origin(all);
    stage_state host;
    host.size = p.out.size();
    host.lower = lower.data(), host.upper = upper.data(), host.radius = radius.data();
    host.origin_error = error.data(), host.origin = origin.data();
    std::vector<affine_sums> found(all);
    cpu::conv_sums(p.host, p.x.host, batch, found.data());
    store_intervals<Outward>(
        host, batch, found.data(), [&](std::size_t i) { return p.bias[i / each]; }, terms, true);

    uploaded<float> const device_lower(lower), device_upper(lower), device_radius(lower), device_error(lower);
    uploaded<double> const device_origin(origin);
    stage_state device;
    device.size = p.out.size();
    device.lower = device_lower.get(), device.upper = device_upper.get(), device.radius = device_radius.get();
    device.origin_error = device_error.get(), device.origin = device_origin.get();
    gpu::conv_forward<Outward>(nullptr, p.device, p.x.device, device, batch, terms);
    // products are exact in double; only the order of additions differs
    std::size_t far = 0, apart = 0;
    std::vector<double> const device_origins = device_origin.read();
    for (std::size_t i = 0; i < all; ++i) {
      far += std::fabs(device_origins[i] - origin[i]) > 2 * gamma_sum(terms) * found[i].magnitude;
    }
    CHECK(far == 0);
    auto const compare = [&](std::vector<float> const& a, std::vector<float> const& b) {
      for (std::size_t i = 0; i < all; ++i) {
        double const size = std::fabs(origin[i]) + static_cast<double>(radius[i]) + static_cast<double>(error[i]);
        apart += std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])) > 3e-7 * size;
      }
    };
    compare(device_error.read(), error);
    compare(device_radius.read(), radius);
    compare(device_lower.read(), lower);
    compare(device_upper.read(), upper);
    CHECK(apart == 0);
  }
}
