// SPDX-License-Identifier: Apache-2.0
// Projected gradient search for a counterexample (Madry et al. 2018, section 2.1), batched over starting points.
//
// The gradient needs no code of its own: over a box that is one point every relaxation is the tangent, so the
// coefficients that a backward pass leaves at the input are the gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/problem.hpp>
#include <hull/search/verdict.hpp>

namespace hull {

/// A point on its way, and the disjunct whose constraints it shall satisfy.
struct attack_point final {
  std::size_t disjunct = 0;
  std::vector<input_range> at;  // lower == upper
};

/// Searches the disjuncts of a specification for points that satisfy all their constraints. `M` computes with rounding
/// `Nearest`. All disjuncts and all starting points move in one batch.
template <Network Net, class M>
class attack final {
 public:
  attack(M& machine, std::size_t row_bytes) : machine_(&machine), bounds_(machine, row_bytes) {}

  /// Returns the inputs of a confirmed counterexample of one of `disjuncts`, or nothing. `restarts` starting points for
  /// each; stops at the deadline. Cost: a forward and a backward pass over all points per step.
  [[nodiscard]] std::vector<double> search(specification const& spec, std::span<std::size_t const> disjuncts,
                                           std::size_t restarts, verify_options const& options,
                                           confirm_function const& confirm, deadline const& end) {
    std::mt19937_64 random(options.seed);
    std::vector<attack_point> points;
    for (std::size_t const d : disjuncts) {
      for (std::size_t p = 0; p < restarts; ++p) points.push_back({d, start(spec.disjuncts[d].box, p, random)});
    }
    return search_from(spec, std::move(points), options.steps, confirm, end);
  }

  /// The same from given starting points, which ranks divide; all get the first counterexample, in the order of points.
  [[nodiscard]] std::vector<double> search_from(specification const& spec, std::vector<attack_point> points,
                                                std::size_t steps, confirm_function const& confirm,
                                                deadline const& end) {
    bounds_.stop_at(end);
    row_range const mine = machine_->own_part(points.size());
    std::vector<attack_point> own(points.begin() + static_cast<std::ptrdiff_t>(mine.first),
                                  points.begin() + static_cast<std::ptrdiff_t>(mine.last));
    if (own.empty() && !points.empty()) own.push_back(points.front());  // passes may be collectives
    double step = 0.25;                                                 // of each coordinate's range
    std::size_t const period = std::max<std::size_t>(1, steps / 6);
    try {
      for (std::size_t round = 0; round <= steps; ++round) {
        auto const worst = gradients(spec, own);
        std::size_t const none = points.size();
        std::size_t first = none;
        for (std::size_t p = 0; p < mine.size() && first == none; ++p) {
          if (worst[p].value > 0) continue;
          if (end.passed_here()) break;  // confirming takes far longer than a point of the batch
          if (confirm(coordinates(own[p].at))) first = mine.first + p;
        }
        std::size_t const found = machine_->least_of_parts(first);
        if (found < none) {
          std::vector<double> inside(spec.inputs, 0.0);
          if (found == first) inside = coordinates(own[found - mine.first].at);
          machine_->add_own_parts(inside.data(), inside.size());
          return inside;
        }
        end.check();
        for (std::size_t p = 0; p < own.size(); ++p) descend(own[p], spec, worst[p].gradient, step);
        if ((round + 1) % period == 0) step *= 0.5;
      }
    } catch (deadline_passed const&) {  // the caller sees it from `end`
    }
    return {};
  }

 private:
  struct worst_form {
    double value = 0;             // the largest form at the point; at most 0 if all constraints hold
    std::vector<float> gradient;  // [inputs] of that form
  };

  /// The centre, then uniform points and corners in turn.
  static std::vector<input_range> start(std::vector<input_range> const& box, std::size_t number,
                                        std::mt19937_64& random) {
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<input_range> point(box.size());
    for (std::size_t i = 0; i < box.size(); ++i) {
      double const share = number == 0 ? 0.5 : number % 2 == 1 ? uniform(random) : std::round(uniform(random));
      double const x = box[i].lower + share * (box[i].upper - box[i].lower);
      point[i].lower = point[i].upper = std::clamp(x, box[i].lower, box[i].upper);
    }
    return point;
  }

  static void descend(attack_point& point, specification const& spec, std::vector<float> const& gradient, double step) {
    auto const& box = spec.disjuncts[point.disjunct].box;
    for (std::size_t i = 0; i < box.size(); ++i) {
      double const direction = gradient[i] > 0 ? -1.0 : gradient[i] < 0 ? 1.0 : 0.0;
      double const moved = point.at[i].lower + direction * step * (box[i].upper - box[i].lower);
      point.at[i].lower = point.at[i].upper = std::clamp(moved, box[i].lower, box[i].upper);
    }
  }

  static std::vector<double> coordinates(std::vector<input_range> const& point) {
    std::vector<double> x;
    for (auto const& range : point) x.push_back(range.lower);
    return x;
  }

  /// The largest form of each point, and its gradient.
  std::vector<worst_form> gradients(specification const& spec, std::vector<attack_point> const& points) {
    std::vector<box_view> boxes;
    for (auto const& point : points) boxes.push_back(&point.at);
    bounds_.run_intervals(boxes);

    auto const& input = bounds_.state().stage[0];
    std::vector<worst_form> worst(points.size());
    std::vector<row_form> forms;
    for (std::size_t p = 0; p < points.size(); ++p) {
      worst[p].gradient.assign(input.size, 0.0f);
      auto const* form = largest_form(spec.disjuncts[points[p].disjunct], p, worst[p].value);
      if (form != nullptr) forms.push_back({static_cast<index_t>(p), form});
    }
    bounds_.backward_forms(forms, [&](row_block const& rows, coefficient_views<Net> const& a) {
      for (std::size_t r = 0; r < rows.count; ++r) {
        auto& gradient = worst[rows.box[r]].gradient;
        for (std::size_t c = 0; c < input.live_count; ++c) gradient[input.live[c]] = a[0][r * input.live_count + c];
      }
    });
    return worst;
  }

  /// The form with the largest value at point p, from the centre of the output. None if there are no constraints.
  linear_constraint const* largest_form(disjunct const& target, std::size_t p, double& value) const {
    auto const& state = bounds_.state();
    auto const& input = state.stage.front();
    auto const& output = state.stage.back();
    linear_constraint const* largest = nullptr;
    for (auto const& form : target.constraints) {
      double sum = form.constant;
      for (term const& t : form.outputs) sum += t.coefficient * output.centre[p * output.size + t.index];
      for (term const& t : form.inputs) sum += t.coefficient * input.centre[p * input.size + t.index];
      if (largest == nullptr || sum > value) {
        largest = &form;
        value = sum;
      }
    }
    return largest;
  }

  M* machine_;
  propagation<Net, M> bounds_;
};

}  // namespace hull
