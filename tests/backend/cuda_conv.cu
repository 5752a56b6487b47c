// SPDX-License-Identifier: Apache-2.0
// Conv on the device against exact sums and against the CPU, for many shapes; equal to the bit from run to run, and for
// a row alone and among others.
#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include <hull/backend/cpu/conv.hpp>
#include <hull/backend/cpu/points.hpp>
#include <hull/backend/cuda/conv.cuh>
#include <hull/propagate/rounding_error.hpp>
#include <hull/scalar/rounding.hpp>

#include "backend/conv_problem.cuh"
#include "support/brief.hpp"
#include "support/uploaded.cuh"

using namespace hull;
using namespace hull::reference;

namespace {

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

    if (!brief()) {
      std::vector<float> const again = backward_on_device(p, most, a_y, old);
      CHECK(same(all.data(), again.data(), all.size()));
    }
    for (std::size_t const rows : {std::size_t{1}, std::size_t{3}, std::size_t{17}}) {
      for (std::size_t const first : {std::size_t{0}, std::size_t{1}, std::size_t{98}, std::size_t{180}}) {
        if (brief() && first > 0) break;
        std::vector<float> const few(a_y.begin() + first * outs, a_y.begin() + (first + rows) * outs);
        std::vector<float> const few_old(old.begin() + first * ins, old.begin() + (first + rows) * ins);
        std::vector<float> const found = backward_on_device(p, rows, few, few_old);
        CHECK(same(found.data(), all.data() + first * ins, rows * ins));
      }
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
      std::vector<float> scratch(cpu::convolve_packed_floats(p.in, p.out, s.filter) +
                                 cpu::thread_count() * cpu::convolve_thread_floats(p.in, p.out, s.filter));
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
