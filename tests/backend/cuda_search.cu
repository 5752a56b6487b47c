// SPDX-License-Identifier: Apache-2.0
// What branch and bound asks of a machine beside the steps of propagation, on the GPU: chosen rows, scores, and whole
// searches with the verdicts of the CPU.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cuda/machine.cuh>
#include <hull/search/bab.hpp>

#include "support/brief.hpp"
#include "support/random.hpp"
#include "support/uploaded.cuh"

using namespace hull;
using namespace hull::reference;

namespace {

// clang-format off
struct mlp final : decltype(Input<12> >> Linear<"a", 30> >> Relu >> Linear<"b", 20> >> Relu >> Linear<"c", 3>) {};
constexpr auto stem = Input<1, 4, 4> >> Conv<"a", 3, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu;
struct residual final : decltype((stem + (stem >> Conv<"b", 3, kernel<3, 3>, pad<1, 1, 1, 1>> >> Relu)) >> Flatten >>
                                 Linear<"c", 10> >> Relu >> Linear<"d", 3>) {};
// clang-format on

/// Free columns and coefficients of one stage, for `rows` rows.
struct random_stage final {
  std::size_t live, count;
  std::vector<index_t> column;
  std::vector<float> zero_slope, one_slope, gap, ratio, bias, a;

  random_stage(random_engine& random, std::size_t size, std::size_t rows) : live(size), count(0) {
    float const odd[] = {0,
                         -0.0f,
                         std::numeric_limits<float>::quiet_NaN(),
                         std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(),
                         1,
                         -1};
    for (index_t c = 0; c < size; ++c) {
      if (random() % 3 != 0) column.push_back(c);
    }
    count = column.size();
    auto const number = [&](double lower, double upper) { return static_cast<float>(uniform(random, lower, upper)); };
    for (std::size_t i = 0; i < count; ++i) {
      zero_slope.push_back(number(0, 1));
      one_slope.push_back(random() % 2 == 0 ? zero_slope.back() : 0);
      gap.push_back(random() % 4 == 0 ? 0.5f : number(0, 2));  // equal ones tie
      ratio.push_back(random() % 4 == 0 ? 0.5f : number(0, 1));
      bias.push_back(random() % 4 == 0 ? 0.25f : number(-1, 1));
    }
    for (std::size_t i = 0; i < rows * size; ++i) a.push_back(random() % 4 == 0 ? odd[random() % 7] : number(-1, 1));
  }
};

template <Network Net>
void compare_scores(std::size_t seed, std::size_t room, std::size_t rows) {
  random_engine random(seed);
  network_state<Net> state;
  free_state<Net> free;
  coefficient_views<Net> a{}, device_a{};
  std::array<bool, stage_count<Net>> stages{};
  std::vector<random_stage> data;
  std::vector<uploaded<float>> floats;
  std::vector<uploaded<index_t>> lists;
  data.reserve(stage_count<Net>);
  auto const upload = [&](auto& keep, auto const& from) { return keep.emplace_back(from).get(); };
  auto device_free = free;
  for (std::size_t k = 1, offset = 0; k < stage_count<Net>; ++k) {
    auto& one = data.emplace_back(random, stage_table_of<Net>.stage[k].size, room);
    state.stage[k].live_count = one.live;
    auto &host = free.stage[k], &device = device_free.stage[k];
    host.count = one.count;
    host.offset = offset;
    offset += one.count;
    device = host;
    host.column = one.column.data();
    device.column = upload(lists, one.column);
    auto const both = [&](auto member, std::vector<float>& numbers) {
      member(host) = numbers.data();
      member(device) = upload(floats, numbers);
    };
    both(
        [](free_columns & f) -> auto& { return f.zero.upper_slope; }, one.zero_slope);
    both(
        [](free_columns & f) -> auto& { return f.one.upper_slope; }, one.one_slope);
    both(
        [](free_columns & f) -> auto& { return f.gap; }, one.gap);
    both(
        [](free_columns & f) -> auto& { return f.ratio; }, one.ratio);
    both(
        [](free_columns & f) -> auto& { return f.bias; }, one.bias);
    a[k] = one.a.data();
    device_a[k] = upload(floats, one.a);
    stages[k] = k != 2;
  }
  free_rows p, device_p;
  p.width = device_p.width = free.width(stage_count<Net> - 1);
  p.splits = device_p.splits = 7;
  std::vector<index_t> count, parameter;
  for (std::size_t r = 0; r < room; ++r) {
    count.push_back(static_cast<index_t>(random() % 8));
    for (int q = 0; q < 7; ++q) parameter.push_back(static_cast<index_t>(random() % p.width));
  }
  p.split_count = count.data();
  p.split_parameter = parameter.data();
  device_p.split_count = upload(lists, count);
  device_p.split_parameter = upload(lists, parameter);
  std::vector<index_t> chosen(rows);
  for (index_t& r : chosen) r = static_cast<index_t>(random() % room);
  std::vector<split_candidates> host(rows), device(rows);
  cpu::score_rows<Net>(state, free, p, a, chosen, stages, host);
  hull::cuda::device const at(1);
  hull::cuda::score_rows<Net>(at, state, device_free, device_p, device_a, chosen, stages, device);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    wrong += host[i].count != device[i].count;
    for (std::size_t list = 0; list < 2; ++list) {
      for (std::size_t n = 0; n < host[i].count[list]; ++n) {
        std::size_t const key = list * split_candidates::each + n;
        wrong += host[i].parameter[key] != device[i].parameter[key];
        wrong += std::bit_cast<std::uint32_t>(host[i].score[key]) != std::bit_cast<std::uint32_t>(device[i].score[key]);
      }
    }
  }
  CHECK(wrong == 0);
}

/// What y_0 - y_1 + constant is at a point, up to rounding.
template <Network Net>
class sampled final {
 public:
  sampled(parameter_map const& p, double constant)
      : weights_(p), machine_(weights_), all_(machine_), constant_(constant) {}

  double operator()(std::span<double const> x) {
    box_type box;
    for (double const one : x) box.push_back({one, one});
    box_type const* const view = &box;
    all_.run_intervals({&view, 1});
    auto const& y = all_.state().stage.back();
    return static_cast<double>(y.centre[0]) - y.centre[1] + constant_;
  }

 private:
  parameters<Net> weights_;
  cpu::machine<Net, Nearest> machine_;
  propagation<Net, cpu::machine<Net, Nearest>> all_;
  double constant_;
};

/// What a search says.
struct told final {
  search_end end = search_end::gave_up;
  verify_report report;
};

template <Network Net, class M>
told search(parameter_map const& p, specification const& spec, certificate* proof, std::size_t batch) {
  parameters<Net> const weights(p);
  M machine(weights);
  problem const asked(spec, graph<Net>::input_size, graph<Net>::output_size);
  verify_options options;
  options.memory_budget = std::size_t{1} << 26;
  options.proof = proof;
  sampled<Net> value(p, spec.disjuncts[0].constraints[0].constant);
  confirm_function const confirm = [&](std::span<double const> x) { return value(x) <= 0; };
  told found;
  found.report.margins.assign(asked.rows.size(), -std::numeric_limits<double>::infinity());
  std::vector<std::size_t> open{0};
  branch_and_bound<Net, M, cpu::machine<Net, Nearest>> bab(machine, asked, spec, options, confirm, {},
                                                           {.batch = batch});
  found.end = bab.run(open, found.report, [](auto const&) { return false; });
  return found;
}

/// One form whose limit lies a little above or below its least sampled value.
template <Network Net>
specification near_edge(random_engine& random, parameter_map const& p, double radius, double share) {
  constexpr std::size_t inputs = graph<Net>::input_size;
  specification spec{inputs, graph<Net>::output_size, {{random_box(random, inputs, radius), {}}}, "test"};
  linear_constraint form{{{0, 1.0}, {1, -1.0}}, {}, 0, false};
  double least = 1e30, most = -1e30;
  sampled<Net> value(p, 0);
  for (std::size_t n = 0; n < 1000; ++n) {
    std::vector<double> x;
    for (auto const& range : spec.disjuncts[0].box) {
      double const at = n % 2 == 0 ? uniform(random, 0, 1) : std::round(uniform(random, 0, 1));
      x.push_back(range.lower + at * (range.upper - range.lower));
    }
    double const now = value(x);
    least = std::min(least, now);
    most = std::max(most, now);
  }
  form.constant = -(least - share * (most - least));
  spec.disjuncts[0].constraints.push_back(form);
  return spec;
}

template <Network Net>
void compare_searches(std::size_t seeds, double radius) {
  using on_device = hull::cuda::machine<Net, Outward>;
  std::size_t domains = 0;
  for (std::size_t seed = 1; seed <= (brief() ? 2 : seeds); ++seed) {
    CAPTURE(seed);
    random_engine random(seed);
    auto const p = random_parameters<Net>(seed);
    auto const spec = near_edge<Net>(random, p, radius, seed % 3 == 0 ? -0.02 : 0.05);
    certificate proof;
    proof.disjuncts.resize(1);
    auto const host = search<Net, cpu::machine<Net, Outward>>(p, spec, nullptr, 64);
    auto const device = search<Net, on_device>(p, spec, &proof, 64),
               again = brief() ? device : search<Net, on_device>(p, spec, nullptr, 64);
    domains += device.report.domains;
    CHECK(device.end == host.end);
    CHECK(device.end == again.end);
    CHECK(device.report.domains == again.report.domains);
    CHECK(device.report.peak_bytes == device.report.planned_bytes);
    CHECK((device.report.domains == 1) == (host.report.domains == 1));
    double const ours = device.report.margins[0], theirs = host.report.margins[0];
    // what a search proves is the least of its leaves, which lie elsewhere after another rounding
    CHECK((ours > 0) == (theirs > 0));
    if (device.report.domains == 1) CHECK(ours == doctest::Approx(theirs).epsilon(2e-3));
    CHECK(ours == again.report.margins[0]);
    if (device.end == search_end::refuted) CHECK(proof.disjuncts[0].tree.nodes().size() >= 1);
  }
  MESSAGE(domains << " domains");
}

/// Rows of T become floats on the device, and come back. `draw(random)`: a number.
template <class T, class Draw>
void chosen_rows(Draw draw) {
  random_engine random(1);
  hull::cuda::device const at(1);
  for (auto const& [width, rows] :
       {std::pair<std::size_t, std::size_t>{1, 9000}, {7, 5000}, {1536, 700}, {70000, 9}, {600000, 3}}) {
    CAPTURE(width);
    // one source for some rows in turn, one for rows far apart, and many for one each
    std::vector<std::vector<T>> sources(rows);
    std::vector<T const*> from;
    for (std::size_t r = 0; r < rows; ++r) {
      sources[r].resize(width);
      for (T& x : sources[r]) x = draw(random);
      from.push_back(sources[r < rows / 3 ? r / 12 * 12 : r % 50 == 7 ? 0 : r].data());
    }
    uploaded<float> const block(std::vector<float>(rows * width, 3.0f));
    hull::cuda::write_rows<T>(at, block.get(), width, from);
    at.finish();
    auto const all = block.read();
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < width; ++i) wrong += all[r * width + i] != hull::cuda::row_number<float>(from[r][i]);
    }
    CHECK(wrong == 0);
    std::vector<index_t> some(rows);
    for (index_t& r : some) r = static_cast<index_t>(random() % rows);
    std::vector<char> seen(rows, 0), right(rows, 0);  // written by several threads
    hull::cuda::read_rows<T>(at, block.get(), width, some, [&](std::size_t i, T const* row) {
      ++seen[i];
      right[i] = std::equal(row, row + width, from[some[i]]);
    });
    CHECK(std::count(seen.begin(), seen.end(), 1) == static_cast<std::ptrdiff_t>(rows));
    CHECK(std::count(right.begin(), right.end(), 1) == static_cast<std::ptrdiff_t>(rows));
  }
}

}  // namespace

TEST_CASE("chosen rows come and go, as they are and packed") {
  chosen_rows<float>([](random_engine& random) { return static_cast<float>(uniform(random, -1, 1)); });
  chosen_rows<packed_alpha>([](random_engine& random) { return static_cast<packed_alpha>(random() % 65536); });
}

TEST_CASE("scores of rows are those of the CPU to the bit") {
  for (std::size_t seed = 1; seed <= 5; ++seed) compare_scores<mlp>(seed, 50, 300);
  compare_scores<residual>(6, 50, 300);
  compare_scores<mlp>(7, 2000, 25000);  // more than the mail holds
}

TEST_CASE("searches on the GPU") { compare_searches<mlp>(6, 0.5); }
#ifndef HULL_CUDA_QUICK
TEST_CASE("searches on the GPU, in a residual network") { compare_searches<residual>(4, 0.5); }
#endif
