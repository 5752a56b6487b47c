// SPDX-License-Identifier: Apache-2.0
// The GPU against the CPU: the same intervals and bounds up to the stated rounding, and bounds that hold; equal to the
// bit from run to run and for every size of chunk.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cuda/machine.cuh>
#include <hull/propagate/propagation.hpp>

#include "support/brief.hpp"
#include "support/random.hpp"

namespace hull::reference {

/// All that a propagation tells.
struct answer final {
  std::vector<float> lower, upper;
  std::vector<double> crown, interval, climbed;

  friend bool operator==(answer const& a, answer const& b) {  // to the bit
    auto const same = [](auto const& x, auto const& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0;
    };
    return same(a.lower, b.lower) && same(a.upper, b.upper) && same(a.crown, b.crown) && same(a.interval, b.interval) &&
           same(a.climbed, b.climbed);
  }
};

template <Network Net, class M>
answer run(parameter_map const& p, std::vector<box_type> const& boxes, hidden_bounds method,
           std::vector<linear_constraint> const& forms, std::size_t row_bytes) {
  parameters<Net> const weights(p);
  M machine(weights);
  propagation<Net, M> all(machine, row_bytes);
  std::vector<box_type const*> views;
  for (auto const& box : boxes) views.push_back(&box);
  std::size_t const steps = brief() ? 2 : 5;
  all.run(views, method, {.steps = steps});
  answer found;
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    std::vector<float> known(2 * stage<Net, K>::size);
    for (std::size_t b = 0; b < boxes.size(); ++b) {
      machine.template keep<stage<Net, K>>(all.state(), b, known.data());
      auto const middle = known.begin() + stage<Net, K>::size;
      found.lower.insert(found.lower.end(), known.begin(), middle);
      found.upper.insert(found.upper.end(), middle, known.end());
    }
  });
  std::vector<row_form> rows;
  for (std::size_t b = 0; b < boxes.size(); ++b) {
    for (auto const& form : forms) rows.push_back({static_cast<index_t>(b), &form});
  }
  found.interval = all.interval_bounds(rows);
  if (method == hidden_bounds::crown) found.crown = all.lower_bounds(rows);
  if (method == hidden_bounds::alpha_crown) found.climbed = all.climbed_bounds(rows, {.steps = steps});
  return found;
}

/// Largest difference of two lists in terms of the numbers' size.
template <class T>
double difference(std::vector<T> const& a, std::vector<T> const& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    double const d = std::fabs(static_cast<double>(a[i]) - b[i]) / (1 + std::fabs(static_cast<double>(a[i])));
    worst = d <= worst ? worst : d;  // NaN stays
  }
  return worst;
}

/// The law of propagation on the device: no input of the boxes leaves a bound. Inputs are points and corners; their
/// values come from the CPU as intervals around points, so a breach by less than their width may pass.
template <Network Net, class P>
void check_law(parameter_map const& p, std::vector<box_type> const& boxes, std::vector<linear_constraint> const& forms,
               random_engine& random) {
  std::size_t const samples = 256;
  parameters<Net> const weights(p);
  hull::cuda::machine<Net, Outward, lone_member<Net>, P> machine(weights);
  cpu::machine<Net, Outward> host(weights);
  propagation<Net, hull::cuda::machine<Net, Outward, lone_member<Net>, P>> all(machine);
  propagation<Net, cpu::machine<Net, Outward>> values(host);
  for (auto const& box : boxes) {
    box_type const* const view = &box;
    all.run({&view, 1}, hidden_bounds::crown);
    auto const bounds = machine.on_host(all.state());
    std::vector<row_form> rows;
    for (auto const& form : forms) rows.push_back({0, &form});
    auto const lower = all.lower_bounds(rows);
    std::vector<box_type> points(samples, box);
    std::vector<box_type const*> views;
    for (std::size_t n = 0; n < samples; ++n) {
      for (auto& range : points[n]) {
        double const share = n % 2 == 0 ? uniform(random, 0, 1) : static_cast<double>(random() % 2);
        float const x = static_cast<float>(range.lower + share * (range.upper - range.lower));
        range.lower = range.upper = std::clamp<double>(x, range.lower, range.upper);
      }
      views.push_back(&points[n]);
    }
    values.run(views, hidden_bounds::interval);
    std::size_t broken = 0;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      auto const &point = values.state().stage[K], &bound = bounds.stage[K];
      for (std::size_t at = 0; at < samples * point.size; ++at) {
        std::size_t const i = at % point.size;
        if (point.upper[at] < bound.lower[i] || point.lower[at] > bound.upper[i]) ++broken;
      }
    });
    std::vector<row_form> each;
    for (std::size_t n = 0; n < samples; ++n) {
      for (auto const& form : forms) each.push_back({static_cast<index_t>(n), &form});
    }
    std::vector<linear_constraint> negated = forms;
    for (auto& form : negated) {
      form.constant = -form.constant;
      for (auto& t : form.outputs) t.coefficient = -t.coefficient;
      for (auto& t : form.inputs) t.coefficient = -t.coefficient;
    }
    for (std::size_t r = 0; r < each.size(); ++r) each[r].form = &negated[r % forms.size()];
    auto const above = values.interval_bounds(each);  // minus an upper bound of the form's value
    for (std::size_t r = 0; r < above.size(); ++r) broken += -above[r] < lower[r % forms.size()] ? 1 : 0;
    CHECK(broken == 0);
  }
}

template <Network Net, class R, class P = hull::cuda::Fp32>
void compare(char const* name, std::size_t seed, double radius, bool climbs = true) {
  CAPTURE(name);
  CAPTURE(R::name);
  using g = graph<Net>;
  random_engine random(seed);
  auto const p = random_parameters<Net>(seed);
  auto const forms = random_forms(random, g::input_size, g::output_size, true);
  std::vector<box_type> boxes;
  for (double const share : {1.0, 0.3, 0.0}) boxes.push_back(random_box(random, g::input_size, share * radius));
  if (brief()) boxes.pop_back();
  if constexpr (R::outward) {
    if (!brief()) check_law<Net, P>(p, boxes, forms, random);
  }
  using on_host = cpu::machine<Net, R>;
  using on_device = hull::cuda::machine<Net, R, lone_member<Net>, P>;
  std::size_t const large = std::size_t{64} << 20, small = brief() ? std::size_t{1} << 20 : 0;
  for (auto const method : {hidden_bounds::interval, hidden_bounds::crown, hidden_bounds::alpha_crown}) {
    bool const alone = method == hidden_bounds::alpha_crown;
    if (alone && !climbs) continue;
    CAPTURE(static_cast<int>(method));
    auto some = boxes;
    if (alone) some.resize(1);
    auto const host = run<Net, on_host>(p, some, method, forms, large);
    auto const device = run<Net, on_device>(p, some, method, forms, large);
    // climbing follows other roundings, and keeps the best
    double const allowed = P::tensor && R::outward ? 5e-3 : alone ? 2e-3 : 2e-5;  // tensor cores cost slack
    double const heads = std::max(difference(host.lower, device.lower), difference(host.upper, device.upper));
    double const bounds = std::max(difference(host.crown, device.crown), difference(host.interval, device.interval));
    double const climbed = difference(host.climbed, device.climbed);
    MESSAGE(name << ' ' << std::string(R::name) << " method " << static_cast<int>(method) << ": heads " << heads
                 << ", bounds " << bounds << ", climbed " << climbed);
    CHECK(heads <= allowed);
    CHECK(bounds <= allowed);
    CHECK(climbed <= allowed);
    if (!brief()) CHECK(device == run<Net, on_device>(p, some, method, forms, large));
    if (!brief() || !alone) CHECK(device == run<Net, on_device>(p, some, method, forms, small));  // 0: least chunks
  }
}

}  // namespace hull::reference
