// SPDX-License-Identifier: Apache-2.0
// The exact minimum of a specification over a small piecewise linear network, by enumeration: the box is cut into
// simplices, and these along the kink of every neuron, until the network is linear on each. Then the minimum is at a
// vertex. Shares nothing with the search, knows no relaxation and prunes nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "random.hpp"

namespace hull::reference {

/// A chain of dense layers with Relu or LeakyRelu between them. Cost: the number of linear regions, times the
/// factorial of the number of inputs and more; meant for two to four of them.
template <Network Net>
class exact_minimum final {
 public:
  using values = std::vector<long double>;

  explicit exact_minimum(parameter_map const& p) {
    graph<Net>::for_each([&]<std::size_t I> {
      using op = typename graph<Net>::template op<I>;
      if constexpr (requires { requires HeadOf<op, linear_head>; }) {
        layers_.push_back({p.at(op::layer, "weight"), p.at(op::layer, "bias"), 1});
      } else if constexpr (I > 0) {
        layers_.back().slope = 0;
        if constexpr (!std::is_same_v<op, relu_t>) layers_.back().slope = p.at(op::layer, "alpha")[0];
      }
    });
  }

  /// min over the box of max over the constraints: positive if the disjunct has no solution.
  [[nodiscard]] long double operator()(disjunct const& asked) {
    asked_ = &asked;
    least_ = 1e300L;
    regions = 0;
    std::size_t const inputs = asked.box.size();
    std::vector<std::size_t> order(inputs);
    std::iota(order.begin(), order.end(), std::size_t{0});
    do {  // the simplices of Kuhn's triangulation: from one corner of the box to the other, axis by axis
      simplex whole;
      values corner;
      for (auto const& x : asked.box) corner.push_back(x.lower);
      whole.push_back({corner, layers_.front().head(corner)});
      for (std::size_t const axis : order) {
        corner[axis] = asked.box[axis].upper;
        whole.push_back({corner, layers_.front().head(corner)});
      }
      cut(std::move(whole), 0, 0);
    } while (std::next_permutation(order.begin(), order.end()));
    return least_;
  }

  std::size_t regions = 0;  // simplices of the last call

 private:
  struct layer {
    std::vector<float> weight, bias;
    long double slope;  // behind it, for negative values

    [[nodiscard]] values head(values const& x) const {
      values y(bias.begin(), bias.end());
      for (std::size_t o = 0; o < y.size(); ++o) {
        for (std::size_t i = 0; i < x.size(); ++i) y[o] += static_cast<long double>(weight[o * x.size() + i]) * x[i];
      }
      return y;
    }
  };
  struct vertex {
    values x;  // input
    values z;  // heads of the layer at hand; behind the last layer, the constraints' values
  };
  using simplex = std::vector<vertex>;

  /// Numbers whose sign decides which line holds: heads, and behind the last layer differences of constraints.
  [[nodiscard]] std::size_t kinks(std::size_t at) const {
    std::size_t const forms = asked_->constraints.size();
    if (at == layers_.size()) return forms * (forms - 1) / 2;
    return layers_[at].slope == 1 ? 0 : layers_[at].bias.size();
  }
  [[nodiscard]] long double kink(vertex const& v, std::size_t at, std::size_t number) const {
    if (at < layers_.size()) return v.z[number];
    for (std::size_t i = 1; i < v.z.size(); ++i) {
      if (number < i) return v.z[i] - v.z[number];
      number -= i;
    }
    return 0;
  }

  /// Cuts at the kinks from `number` on of layer `at`, then goes on with the next layer.
  void cut(simplex s, std::size_t at, std::size_t number) {
    for (; number < kinks(at); ++number) {
      std::size_t low = 0, high = 0;
      for (std::size_t v = 1; v < s.size(); ++v) {
        if (kink(s[v], at, number) < kink(s[low], at, number)) low = v;
        if (kink(s[v], at, number) > kink(s[high], at, number)) high = v;
      }
      long double const below = kink(s[low], at, number), above = kink(s[high], at, number);
      if (below >= -1e-15L || above <= 1e-15L) continue;
      vertex middle = s[low];  // where the edge between the two crosses zero
      long double const share = below / (below - above);
      for (auto const part : {&vertex::x, &vertex::z}) {
        for (std::size_t i = 0; i < (middle.*part).size(); ++i)
          (middle.*part)[i] += share * ((s[high].*part)[i] - (middle.*part)[i]);
      }
      simplex other = s;
      other[low] = middle;
      cut(std::move(other), at, number);
      s[high] = middle;
      cut(std::move(s), at, number);
      return;
    }
    if (at == layers_.size()) {
      ++regions;
      for (vertex const& v : s) least_ = std::min(least_, *std::max_element(v.z.begin(), v.z.end()));
      return;
    }
    for (std::size_t i = 0; i < layers_[at].bias.size(); ++i) {
      bool const negative = std::none_of(s.begin(), s.end(), [&](vertex const& v) { return v.z[i] > 1e-15L; });
      for (vertex& v : s) v.z[i] *= negative ? layers_[at].slope : 1;
    }
    for (vertex& v : s) {
      if (at + 1 < layers_.size()) {
        v.z = layers_[at + 1].head(v.z);
        continue;
      }
      values forms;
      for (auto const& form : asked_->constraints) forms.push_back(value_of(form, v.z, v.x));
      v.z = std::move(forms);
    }
    cut(std::move(s), at + 1, 0);
  }

  std::vector<layer> layers_;
  disjunct const* asked_ = nullptr;
  long double least_ = 0;
};

}  // namespace hull::reference
