// SPDX-License-Identifier: Apache-2.0
// The checker's forward half: intervals of every value of a model over one box, in double, and lines around nonlinear
// steps. Every value of step s lies in [lower, upper]; its magnitude is at most `size`.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <hull/io/check/network.hpp>
#include <hull/ops/sigmoid.hpp>
#include <hull/ops/tanh.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/scalar/elementary.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::io::check {

using vector = Eigen::VectorXd;

/// Lines around a nonlinear step, element by element; `size` >= |slope| |t| + |bias| for both.
struct step_lines final {
  vector lower_slope, lower_bias, upper_slope, upper_bias, size;
};

class intervals {
 public:
  /// A lower bound of the form from the intervals of the outputs alone; may be NaN, which proves nothing.
  [[nodiscard]] double interval_bound(linear_constraint const& form) const {
    double sum = form.constant, magnitude = std::fabs(form.constant);
    auto const add = [&](std::vector<term> const& terms, std::size_t s) {
      for (term const& t : terms) {
        auto const i = as_index(t.index);
        sum += t.coefficient * (t.coefficient >= 0 ? lower_[s][i] : upper_[s][i]);
        magnitude += std::fabs(t.coefficient) * size_[s][i];
      }
    };
    add(form.outputs, count() - 1);
    add(form.inputs, 0);
    return sum - gamma(2 * (form.outputs.size() + form.inputs.size() + 4)) * magnitude - floor_of(magnitude);
  }

  [[nodiscard]] vector const& lower(std::size_t s) const { return lower_[s]; }
  [[nodiscard]] vector const& upper(std::size_t s) const { return upper_[s]; }

 protected:
  intervals(network const& net, std::vector<input_range> const& box)
      : net_(&net), lower_(count()), upper_(count()), size_(count()), reach_(count()), lines_(count()), pick_(count()) {
    lower_[0].resize(as_index(box.size()));
    upper_[0].resize(as_index(box.size()));
    for (std::size_t i = 0; i < box.size(); ++i) {
      lower_[0][as_index(i)] = box[i].lower;
      upper_[0][as_index(i)] = box[i].upper;
    }
  }

  static index as_index(std::size_t i) { return static_cast<index>(i); }
  /// More than what underflow can cost the products of one step.
  static double floor_of(double magnitude) { return 0x1p-960 * (1 + magnitude); }

  [[nodiscard]] std::size_t count() const { return net_->steps().size(); }
  [[nodiscard]] step const& at(std::size_t s) const { return net_->steps()[s]; }

  /// W x, or |W| x.
  [[nodiscard]] static vector multiply(step const& s, std::vector<vector const*> const& x, bool absolute) {
    row_matrix const& w = absolute ? s.size_of_weight : s.weight;
    if (s.kind == step_kind::dense) return w * *x[0];
    vector y = vector::Zero(as_index(s.size));
    if (s.kind == step_kind::sparse) {
      for (entry const& one : s.entries) {
        y[one.out] += (absolute ? std::fabs(one.weight) : one.weight) * (*x[one.operand])[one.in];
      }
      return y;
    }
    auto const each = w.rows() / as_index(s.groups), windows = as_index(s.windows);
    row_matrix patches(as_index(s.taps), windows);
    for (std::size_t g = 0; g < s.groups; ++g) {
      std::int32_t const* seen = s.seen.data() + g * s.taps * s.windows;
      for (index i = 0; i < patches.size(); ++i) patches.data()[i] = seen[i] < 0 ? 0 : (*x[0])[seen[i]];
      row_matrix const sums = w.middleRows(as_index(g) * each, each) * patches;
      Eigen::Map<row_matrix>(y.data() + as_index(g) * each * windows, each, windows) = sums;
    }
    return y;
  }

  void forward(std::size_t number) {
    step const& s = at(number);
    if (s.affine()) {
      std::vector<vector> centres(s.inputs.size()), radii(s.inputs.size());
      std::vector<vector const*> centre, radius, size;
      for (std::size_t i = 0; i < s.inputs.size(); ++i) {
        vector const &low = lower_[s.inputs[i]], &high = upper_[s.inputs[i]];
        centres[i] = 0.5 * low + 0.5 * high;
        radii[i] = (high - centres[i]).cwiseMax(centres[i] - low) * (1 + 0x1p-50);
        centre.push_back(&centres[i]);
        radius.push_back(&radii[i]);
        size.push_back(&size_[s.inputs[i]]);
      }
      vector const middle = multiply(s, centre, false) + s.bias;
      vector const spread = multiply(s, radius, true);
      reach_[number] = multiply(s, size, true) + s.bias_size;  // >= |W| |x| + |b|
      double const share = 2.02 * gamma(s.forward_terms) + 1.02 * s.weight_error;
      vector const error = (share * reach_[number]).array() + floor_of(0);
      lower_[number] = middle - spread - error;
      upper_[number] = middle + spread + error;
    } else if (s.kind != step_kind::input) {
      nonlinear(number);
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (double& low : lower_[number]) {
      if (low != low) low = -infinity;  // NaN: nothing is known
    }
    for (double& high : upper_[number]) {
      if (high != high) high = infinity;
    }
    size_[number] = lower_[number].cwiseAbs().cwiseMax(upper_[number].cwiseAbs());
  }

  // ---- nonlinear steps: intervals and lines ----

  void nonlinear(std::size_t number) {
    step const& s = at(number);
    std::size_t const from = s.inputs[0];
    auto const n = as_index(s.size);
    step_lines& l = lines_[number];
    l.lower_slope = l.lower_bias = l.upper_slope = l.upper_bias = l.size = vector::Zero(n);
    lower_[number].resize(n);
    upper_[number].resize(n);
    if (s.kind == step_kind::largest) return largest(number);
    for (index i = 0; i < n; ++i) {
      double const low = lower_[from][i], high = upper_[from][i];
      if (s.kind == step_kind::kinked) {
        double const own = high > -low ? 1 : s.leak;  // CROWN's slope
        auto const line = kink_lines(s.leak, low, high, own);
        set(l, i, line);
        double const far = std::max(1.0, std::fabs(s.leak));
        l.size[i] = far * size_[from][i] + std::max(std::fabs(line.lower.bias), std::fabs(line.upper.bias));
        double const a = low >= 0 ? low : down::mul(s.leak, low), b = high >= 0 ? high : down::mul(s.leak, high);
        double const c = low >= 0 ? low : up::mul(s.leak, low), d = high >= 0 ? high : up::mul(s.leak, high);
        lower_[number][i] = low < 0 && high > 0 ? std::min({a, b, 0.0}) : std::min(a, b);
        upper_[number][i] = low < 0 && high > 0 ? std::max({c, d, 0.0}) : std::max(c, d);
      } else {
        bool const sigmoid = s.op == "Sigmoid";
        interval<float> const box = narrow(interval<double>{low, high});
        auto const f = sigmoid ? sigmoid_t{}.relax(box) : tanh_t{}.relax(box);
        lines<double> const line{{static_cast<double>(f.lower.slope), static_cast<double>(f.lower.bias)},
                                 {static_cast<double>(f.upper.slope), static_cast<double>(f.upper.bias)}};
        set(l, i, line);
        l.size[i] = std::max(std::fabs(line.lower.slope), std::fabs(line.upper.slope)) * size_[from][i] +
                    std::max(std::fabs(line.lower.bias), std::fabs(line.upper.bias));
        lower_[number][i] = sigmoid ? down::sigmoid(low) : down::tanh(low);
        upper_[number][i] = sigmoid ? up::sigmoid(high) : up::tanh(high);
      }
    }
  }

  static void set(step_lines& l, index i, lines<double> const& line) {
    l.lower_slope[i] = line.lower.slope;
    l.lower_bias[i] = line.lower.bias;
    l.upper_slope[i] = line.upper.slope;
    l.upper_bias[i] = line.upper.bias;
  }

  /// Lines of f(z) = z for z >= 0, leak z for z <= 0, on [low, high]. On the side of the kink any line through zero
  /// with a slope between leak and 1 holds: `slope` says which; on the other side the chord.
  static lines<double> kink_lines(double leak, double low, double high, double slope) {
    if (low >= 0) return {{1, 0}, {1, 0}};
    if (high <= 0) return {{leak, 0}, {leak, 0}};
    line<double> const inner{std::clamp(slope, std::min(leak, 1.0), std::max(leak, 1.0)), 0};
    double const chord = (high - leak * low) / (high - low);  // any slope is sound with the bias that it needs
    if (leak <= 1) {
      double const at_low = up::sub(up::mul(leak, low), down::mul(chord, low));
      double const at_high = up::sub(high, down::mul(chord, high));
      return {inner, {chord, std::max(at_low, at_high)}};
    }
    double const at_low = down::sub(down::mul(leak, low), up::mul(chord, low));
    double const at_high = down::sub(high, up::mul(chord, high));
    return {{chord, std::min(at_low, at_high)}, inner};
  }

  /// Each window follows the element with the largest lower bound; from above it is constant unless that one wins.
  void largest(std::size_t number) {
    step const& s = at(number);
    vector const &low = lower_[s.inputs[0]], &high = upper_[s.inputs[0]];
    pick_[number].resize(s.size);
    for (std::size_t k = 0; k < s.size; ++k) {
      auto const& seen = s.members[k];
      std::uint32_t const pick =
          *std::max_element(seen.begin(), seen.end(), [&](auto a, auto b) { return low[a] < low[b]; });
      double top = high[pick];
      bool certain = true;
      for (auto const i : seen) {
        top = std::max(top, high[i]);
        certain = certain && (i == pick || high[i] <= low[pick]);
      }
      auto const i = as_index(k);
      pick_[number][k] = pick;
      lines_[number].lower_slope[i] = 1;
      lines_[number].upper_slope[i] = certain ? 1 : 0;
      lines_[number].upper_bias[i] = certain ? 0 : top;
      lines_[number].size[i] = size_[s.inputs[0]][pick] + std::fabs(lines_[number].upper_bias[i]);
      lower_[number][i] = low[pick];
      upper_[number][i] = top;
    }
  }

  network const* net_;
  std::vector<vector> lower_, upper_;             // [step] of every element
  std::vector<vector> size_;                      // [step] magnitude of every element, at most
  std::vector<vector> reach_;                     // [step] affine: |W| |x| + |b|
  std::vector<step_lines> lines_;                 // [step] nonlinear
  std::vector<std::vector<std::uint32_t>> pick_;  // [step] largest: element that each window follows
};

}  // namespace hull::io::check
