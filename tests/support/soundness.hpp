// SPDX-License-Identifier: Apache-2.0
// The law of propagation: no input of a box leaves any bound. Checked on thousands of inputs, stage by stage.
#pragma once

#include <cmath>
#include <doctest/doctest.h>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <hull/backend/cpu/machine.hpp>
#include <hull/propagate/propagation.hpp>

#include "random.hpp"

namespace hull::reference {

/// A network with its bounds over a batch of boxes.
template <Network Net, class R = Outward>
class bounded final {
 public:
  bounded(parameter_map const& p, std::vector<box_type> const& boxes, hidden_bounds method,
          std::size_t row_bytes = std::size_t{1} << 20)
      : weights_(p), machine_(weights_), all_(machine_, row_bytes) {
    std::vector<box_type const*> views;
    for (auto const& box : boxes) views.push_back(&box);
    all_.run(views, method);
  }
  bounded(bounded const&) = delete;
  bounded& operator=(bounded const&) = delete;

  [[nodiscard]] stage_state const& stage(std::size_t k) const { return all_.state().stage[k]; }
  [[nodiscard]] propagation<Net, cpu::machine<Net, R>>& all() { return all_; }
  [[nodiscard]] cpu::machine<Net, R>& machine() { return machine_; }

  /// Every form over every box, form by form within a box.
  [[nodiscard]] static std::vector<row_form> rows(std::vector<linear_constraint> const& forms, std::size_t boxes) {
    std::vector<row_form> all;
    for (std::size_t b = 0; b < boxes; ++b) {
      for (auto const& form : forms) all.push_back({static_cast<index_t>(b), &form});
    }
    return all;
  }

  /// Signs of the coefficients that each row has at the input: they name the corner where its bound is attained.
  [[nodiscard]] std::vector<std::vector<int>> signs(std::vector<row_form> const& rows) {
    std::vector<std::vector<int>> result;
    auto const& input = stage(0);
    all_.backward_forms(rows, [&](row_block const& block, coefficient_views<Net> const& a) {
      for (std::size_t r = 0; r < block.count; ++r) {
        auto& row = result.emplace_back(input.size, 0);
        for (std::size_t c = 0; c < input.live_count; ++c) {
          float const coefficient = a[0][r * input.live_count + c];
          row[input.live[c]] = coefficient > 0 ? 1 : coefficient < 0 ? -1 : 0;
        }
      }
    });
    return result;
  }

 private:
  parameters<Net> weights_;
  cpu::machine<Net, R> machine_;
  propagation<Net, cpu::machine<Net, R>> all_;
};

/// Counts the bounds that are broken, and tells the first.
struct breaches final {
  std::size_t count = 0;
  std::string first;

  void expect(bool holds, char const* what, std::size_t where, long double found, long double bound) {
    if (holds || ++count > 1) return;
    std::ostringstream text;
    text.precision(20);
    text << what << ' ' << where << ": " << found << " against " << bound;
    first = text.str();
  }
};

/// Holds one input against the bounds of all stages over box b: head, output, and the lines between.
template <Network Net>
void check_stages(bounded<Net> const& bounds, std::size_t b, std::vector<tensor<long double>> const& values,
                  breaches& broken) {
  using g = graph<Net>;
  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
    using S = stage<Net, K>;
    auto const& s = bounds.stage(K);
    auto const& head = values[S::info.pass ? g::template inputs<S::info.head>[0] : S::info.head].data;
    auto const& output = values[S::info.tail_count > 0 ? S::info.tail[S::info.tail_count - 1] : S::info.head].data;
    for (std::size_t i = 0; i < S::size; ++i) {
      std::size_t const at = b * S::size + i;
      long double const t = head[i], y = output[i] - static_cast<long double>(s.centre[at]);
      broken.expect(!(t < s.lower[at]), "head below its bound at stage", K, t, s.lower[at]);
      broken.expect(!(t > s.upper[at]), "head above its bound at stage", K, t, s.upper[at]);
      broken.expect(!(std::fabs(y) > s.spread[at]), "output outside its interval at stage", K, std::fabs(y),
                    s.spread[at]);
      if (s.slot[i] == stage_state::dead) {
        broken.expect(y == 0, "dead column moves at stage", K, y, 0);
        continue;
      }
      if constexpr (HeadOf<typename S::head, max_head>) continue;  // its lines are about the pick
      std::size_t const c = b * s.live_count + s.slot[i];
      long double const moved = t - static_cast<long double>(s.origin[at]), error = s.origin_error[at];
      broken.expect(!(std::fabs(moved) > s.radius[at] + error), "head beyond its radius at stage", K, moved,
                    s.radius[at]);
      long double const low = s.lower_slope[c] * moved + s.lower_shift[c] - std::fabs(s.lower_slope[c]) * error;
      long double const high = s.upper_slope[c] * moved + s.upper_shift[c] + std::fabs(s.upper_slope[c]) * error;
      broken.expect(!(y < low), "lower line above the output at stage", K, y, low);
      broken.expect(!(y > high), "upper line below the output at stage", K, y, high);
    }
  });
}

/// Inputs of a box: random points, corners, corners with some coordinates inside, corners that the rows point at.
[[nodiscard]] inline std::vector<long double> sample(random_engine& random, box_type const& box,
                                                     std::vector<std::vector<int>> const& signs, std::size_t number) {
  std::vector<long double> x;
  auto const& row = signs[number % signs.size()];
  for (std::size_t i = 0; i < box.size(); ++i) {
    double share = uniform(random, 0, 1);
    if (number % 4 == 1) share = std::round(share);
    if (number % 4 == 2 && share < 0.8) share = share < 0.4 ? 0 : 1;
    if (number % 4 == 3) share = row[i] > 0 ? 0 : row[i] < 0 ? 1 : share;
    if (number % 4 == 3 && number > 4 * signs.size() && random() % 8 == 0) share = 1 - share;  // and its neighbours
    double const inside = box[i].lower + share * (box[i].upper - box[i].lower);
    x.push_back(share == 1 ? box[i].upper : std::clamp(inside, box[i].lower, box[i].upper));
  }
  return x;
}

/// The whole law for one network: both methods, a batch of boxes (the last one is a point), `samples` inputs in all.
template <Network Net>
void check_sound(parameter_map const& p, std::vector<box_type> const& boxes, std::size_t samples, std::size_t seed,
                 bool finite = true) {
  using g = graph<Net>;
  random_engine random(seed);
  auto const forms = random_forms(random, g::input_size, g::output_size, true);
  auto const rows = bounded<Net>::rows(forms, boxes.size());
  bounded<Net> crown(p, boxes, hidden_bounds::crown), interval(p, boxes, hidden_bounds::interval);
  auto const by_crown = crown.all().lower_bounds(rows), by_mixed = interval.all().lower_bounds(rows);
  auto const by_interval = interval.all().interval_bounds(rows);
  auto const signs = crown.signs(rows);
  breaches broken;

  for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {  // rows only ever tighten intervals
    auto const &tight = crown.stage(K), &wide = interval.stage(K);
    for (std::size_t at = 0; at < boxes.size() * stage<Net, K>::size; ++at) {
      bool const inside = !(tight.lower[at] < wide.lower[at]) && !(tight.upper[at] > wide.upper[at]);
      broken.expect(inside || !finite || K > 1, "CROWN wider than intervals at stage", K, tight.lower[at],
                    wide.lower[at]);
    }
  });
  for (std::size_t r = 0; r < rows.size() && finite; ++r) {
    broken.expect(std::isfinite(by_crown[r]) && std::isfinite(by_interval[r]), "bound not finite of row", r,
                  by_crown[r], 0);
  }
  std::size_t shapes = 0;
  for (std::size_t n = 0; n < samples; ++n) {
    std::size_t const b = n % boxes.size();
    std::vector<std::vector<int>> const here(signs.begin() + static_cast<std::ptrdiff_t>(b * forms.size()),
                                             signs.begin() + static_cast<std::ptrdiff_t>((b + 1) * forms.size()));
    auto const x = sample(random, boxes[b], here, n / boxes.size());
    auto const values = evaluate<Net>(p, x);
    if (n == 0) {
      g::for_each([&]<std::size_t I> {
        constexpr extents shape = g::template shape<I>;
        shapes += values[I].dims == sizes(shape.dims, shape.dims + shape.rank) && values[I].data.size() == shape.size();
      });
    }
    check_stages(crown, b, values, broken);
    check_stages(interval, b, values, broken);
    for (std::size_t f = 0; f < forms.size(); ++f) {
      std::size_t const r = b * forms.size() + f;
      long double const value = value_of(forms[f], values.back().data, x);
      broken.expect(!(value < by_crown[r]), "form below its CROWN bound, row", r, value, by_crown[r]);
      broken.expect(!(value < by_mixed[r]), "form below its CROWN-IBP bound, row", r, value, by_mixed[r]);
      broken.expect(!(value < by_interval[r]), "form below its interval bound, row", r, value, by_interval[r]);
    }
  }
  INFO(broken.first);
  CHECK(broken.count == 0);
  CHECK(shapes == g::size);  // the library's shapes are those of the operators' definitions
}

/// The usual case: He weights, three boxes of growing size and one point.
template <Network Net>
void check_random(std::size_t seed, std::size_t samples = 10000, double gain = 1, double scale = 1) {
  random_engine random(seed);
  std::vector<box_type> boxes;
  for (double const radius : {0.01, 0.1, 0.7, 0.0})
    boxes.push_back(random_box(random, graph<Net>::input_size, radius, scale));
  check_sound<Net>(random_parameters<Net>(seed, gain), boxes, samples, seed + 1);
}

}  // namespace hull::reference
