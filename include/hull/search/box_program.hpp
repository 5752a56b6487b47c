// SPDX-License-Identifier: Apache-2.0
// A small linear program over a box, solved from its dual side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace hull {

/// minimise  constant + c x  over  |x_i| <= reach_i  with  g_j x + h_j <= 0  for all constraints j.
///
/// Dual simplex method with bounded variables and long steps (Maros 2003, chapter 10). Its multipliers are feasible for
/// the dual after every step, so it may stop at any time. Plain double arithmetic: whoever uses the multipliers has to
/// evaluate the bound that they give. Cost of a step: constraints x (inputs + constraints).
class box_program final {
 public:
  box_program(std::span<double const> reach, std::span<float const> c, double constant)
      : inputs_(reach.size()), reach_(reach), form_(c.begin(), c.end()), constant_(constant) {}

  /// g must outlive solve().
  void constrain(std::span<float const> g, double h) { rows_.push_back({g, h}); }

  /// Ends when no multipliers are better, or when they bound the minimum by `enough`. False if no x satisfies all
  /// constraints.
  bool solve(double enough) {
    begin();
    for (std::size_t step = 0; step < 20 * (rows_.size() + 10) && !(bound_ >= enough); ++step) {
      if (!improve()) break;
    }
    return ray_ == none;
  }

  /// [constraint] >= 0. If no x satisfies all constraints, any bound can be had: these reach about `enough`.
  [[nodiscard]] std::vector<double> multipliers(double enough) const {
    std::vector<double> result(rows_.size());
    double const far = ray_ != none && ray_gain_ > 0 ? std::max(0.0, enough - bound_) / ray_gain_ : 0.0;
    for (std::size_t j = 0; j < rows_.size(); ++j) {
      std::size_t const slack = inputs_ + j;
      double change = 0;
      if (far > 0 && (!is_basic_[slack] || basic_[ray_] == slack)) {
        change = (ray_up_ ? far : -far) * table_[ray_ * columns_ + slack];
      }
      result[j] = std::max(0.0, cost_[slack] + change);
    }
    return result;
  }

  /// The x at which the multipliers attain their bound: the solution, if there is one.
  [[nodiscard]] std::vector<double> point() const {
    std::vector<double> x(at_.begin(), at_.begin() + static_cast<std::ptrdiff_t>(inputs_));
    for (std::size_t j = 0; j < basic_.size(); ++j) {
      if (basic_[j] < inputs_) x[basic_[j]] = std::clamp(value_[j], -reach_[basic_[j]], reach_[basic_[j]]);
    }
    return x;
  }

 private:
  static constexpr std::size_t none = ~std::size_t{0};

  struct constraint {
    std::span<float const> g;
    double h;
  };

  // column k < inputs_ is x_k, column inputs_ + j the slack of constraint j
  [[nodiscard]] double least(std::size_t k) const { return k < inputs_ ? -reach_[k] : 0.0; }
  [[nodiscard]] double most(std::size_t k) const {
    return k < inputs_ ? reach_[k] : std::numeric_limits<double>::infinity();
  }

  /// All slacks basic, all x where the form is least: feasible for the dual.
  void begin() {
    std::size_t const m = rows_.size();
    columns_ = inputs_ + m;
    table_.assign(m * columns_, 0);
    value_.assign(m, 0);
    cost_ = form_;
    cost_.resize(columns_, 0);
    at_.assign(columns_, 0);
    basic_.assign(m, 0);
    is_basic_.assign(columns_, 0);
    bound_ = constant_;
    ray_ = none;
    for (std::size_t i = 0; i < inputs_; ++i) {
      at_[i] = form_[i] >= 0 ? -reach_[i] : reach_[i];
      bound_ += form_[i] * at_[i];
    }
    for (std::size_t j = 0; j < m; ++j) {
      double* const row = table_.data() + j * columns_;
      std::copy(rows_[j].g.begin(), rows_[j].g.end(), row);
      row[inputs_ + j] = 1;
      value_[j] = -rows_[j].h;
      for (std::size_t i = 0; i < inputs_; ++i) value_[j] -= row[i] * at_[i];
      basic_[j] = inputs_ + j;
      is_basic_[inputs_ + j] = 1;
    }
  }

  /// One step. False at the optimum, and when the constraints contradict each other.
  bool improve() {
    std::size_t leaving = none;
    double worst = 0;
    for (std::size_t j = 0; j < basic_.size(); ++j) {
      double const off = std::max(least(basic_[j]) - value_[j], value_[j] - most(basic_[j]));
      if (off > 1e-10 * (1 + std::fabs(value_[j])) && off > worst) {
        worst = off;
        leaving = j;
      }
    }
    if (leaving == none) return false;
    bool const up = value_[leaving] < least(basic_[leaving]);  // the leaving variable has to grow
    double const* const row = table_.data() + leaving * columns_;

    // columns that can help, by the multiplier at which their reduced cost reaches zero
    order_.clear();
    for (std::size_t k = 0; k < columns_; ++k) {
      if (is_basic_[k] || std::fabs(row[k]) < 1e-11) continue;
      bool const grows = up ? row[k] < 0 : row[k] > 0;
      if (grows ? at_[k] <= least(k) : at_[k] >= most(k)) order_.emplace_back(std::fabs(cost_[k] / row[k]), k);
    }
    std::sort(order_.begin(), order_.end());
    // the bound grows with the multiplier; where a cost changes its sign the variable jumps to its other end
    double slope = worst, before = 0;
    std::size_t passed = 0;
    for (; passed < order_.size(); ++passed) {
      auto const [ratio, k] = order_[passed];
      bound_ += slope * (ratio - before);
      before = ratio;
      double const less = std::fabs(row[k]) * (most(k) - least(k));
      if (!(less < slope)) break;
      slope -= less;
    }
    if (passed == order_.size()) {  // it grows for ever
      move_costs(leaving, up ? before : -before);
      ray_ = leaving;
      ray_up_ = up;
      ray_gain_ = slope;
      return false;
    }
    for (std::size_t i = 0; i < passed; ++i) flip(order_[i].second);
    move_costs(leaving, up ? before : -before);
    pivot(leaving, order_[passed].second, up ? least(basic_[leaving]) : most(basic_[leaving]));
    return true;
  }

  void move_costs(std::size_t leaving, double multiplier) {
    double const* const row = table_.data() + leaving * columns_;
    for (std::size_t k = 0; k < columns_; ++k) {
      if (!is_basic_[k]) cost_[k] += multiplier * row[k];
    }
    cost_[basic_[leaving]] += multiplier;
  }

  void flip(std::size_t k) {
    double const change = at_[k] <= least(k) ? most(k) - least(k) : least(k) - most(k);
    at_[k] = change > 0 ? most(k) : least(k);
    for (std::size_t j = 0; j < basic_.size(); ++j) value_[j] -= table_[j * columns_ + k] * change;
  }

  /// The basic variable `leaving` goes to `target`, column `entering` takes its place.
  void pivot(std::size_t leaving, std::size_t entering, double target) {
    double* const row = table_.data() + leaving * columns_;
    double const element = row[entering], moved = (value_[leaving] - target) / element;
    for (std::size_t k = 0; k < columns_; ++k) row[k] /= element;
    for (std::size_t j = 0; j < basic_.size(); ++j) {
      double* const other = table_.data() + j * columns_;
      double const factor = other[entering];
      if (j == leaving || factor == 0) continue;
      value_[j] -= factor * moved;
      for (std::size_t k = 0; k < columns_; ++k) other[k] -= factor * row[k];
      other[entering] = 0;
    }
    at_[basic_[leaving]] = target;
    is_basic_[basic_[leaving]] = 0;
    is_basic_[entering] = 1;
    cost_[entering] = 0;
    basic_[leaving] = entering;
    value_[leaving] = at_[entering] + moved;
  }

  std::size_t inputs_, columns_ = 0;
  std::span<double const> reach_;
  std::vector<double> form_;
  double constant_;
  std::vector<constraint> rows_;

  std::vector<double> table_;                          // [constraint, column] in terms of the basic variables
  std::vector<double> value_;                          // [constraint] of its basic variable
  std::vector<double> cost_;                           // [column] reduced
  std::vector<double> at_;                             // [column] value of those that are not basic
  std::vector<std::size_t> basic_;                     // [constraint] column
  std::vector<char> is_basic_;                         // [column]
  std::vector<std::pair<double, std::size_t>> order_;  // of a step's candidates
  double bound_ = 0;                                   // that the multipliers give
  std::size_t ray_ = none;                             // row that contradicts the others
  bool ray_up_ = false;
  double ray_gain_ = 0;  // of the bound for every unit of its multiplier
};

}  // namespace hull
