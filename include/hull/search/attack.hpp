// SPDX-License-Identifier: Apache-2.0
// Projected gradient search for a counterexample (Madry et al. 2018, section 2.1), batched over starting points.
//
// The gradient needs no code of its own: over a box that is one point every relaxation is the tangent, so the
// coefficients that a backward pass leaves at the input are the gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/net/cost.hpp>
#include <hull/propagate/memory.hpp>
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
/// `Nearest`. Ranks divide the points; threads of a rank divide its points, or a pass over all of them where the
/// network is large.
template <Network Net, class M>
class attack final {
 public:
  using member_type = typename M::member_type;

  attack(member_type const& member, std::size_t row_bytes)
      : ranks_(member.undivided()),
        own_(member.separate()),
        apart_(small && own_.concurrent()),
        row_bytes_(row_bytes) {}

  /// Returns the inputs of a confirmed counterexample of one of `disjuncts`, or nothing. `restarts` starting points for
  /// each; stops at the deadline. `confirm` is called by one thread at a time. Cost: a forward and a backward pass over
  /// all points per step.
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

  /// The same from given starting points. All ranks get the first counterexample, in the order of steps and points.
  [[nodiscard]] std::vector<double> search_from(specification const& spec, std::vector<attack_point> points,
                                                std::size_t steps, confirm_function const& confirm,
                                                deadline const& end) {
    row_range const mine = ranks_.own_part(points.size());
    std::size_t const none = (steps + 1) * points.size();
    std::vector<attack_point> own(points.begin() + static_cast<std::ptrdiff_t>(mine.first),
                                  points.begin() + static_cast<std::ptrdiff_t>(mine.last));
    if (own.empty() && !points.empty() && !own_.concurrent()) own.push_back(points.front());  // passes are collectives
    std::size_t const each = apart_ ? part_points : std::max<std::size_t>(1, own.size());
    std::size_t const parts = (own.size() + each - 1) / each;
    make_walkers(parts, end);

    leg now{.spec = &spec,
            .confirm = &confirm,
            .end = own_.concurrent() ? &end : nullptr,
            .points = points.size(),
            .own_end = mine.last,
            .found = none};
    std::size_t const period = std::max<std::size_t>(1, steps / 6);
    for (std::size_t round = 0; round <= steps; round = now.last) {
      now.first = round;
      // where passes are collectives, ranks stop after the same one
      now.last = std::min(steps + 1, own_.concurrent() ? (round / period + 1) * period : round + 1);
      try {
        M::side_by_side(parts, walkers_.size(), [&](std::size_t part, std::size_t thread) {
          std::size_t const first = part * each, last = std::min(own.size(), first + each);
          walkers_[thread]->walk(now, std::span(own).subspan(first, last - first), mine.first + first);
        });
      } catch (deadline_passed const&) {  // the others may not have seen it
      }
      std::size_t const found = ranks_.least_of_parts(now.found);
      if (found < none) {
        std::vector<double> inside(spec.inputs, 0.0);
        if (found == now.found) inside = coordinates(own[found % points.size() - mine.first].at);
        ranks_.add_own_parts(inside.data(), inside.size());
        return inside;
      }
      if (end.passed()) break;
      if (now.last % period == 0) now.step *= 0.5;
    }
    return {};
  }

 private:
  // Multiplications of a pass over one point, above which threads share a pass: they meet about 40 times in it.
  static constexpr std::size_t large_pass = std::size_t{1} << 23;
  static constexpr bool small = multiplications<Net>() < large_pass;
  static constexpr std::size_t part_points = 16;  // of a thread: its rows fill vectors, and stay in its cache

  /// What walkers know of the steps that they take now.
  struct leg final {
    specification const* spec;
    confirm_function const* confirm;
    deadline const* end;              // null where ranks must take the same steps: then between steps only
    std::size_t points;               // of all ranks
    std::size_t own_end;              // number behind this rank's last point; one behind that stands in for others'
    std::size_t first = 0, last = 0;  // steps
    double step = 0.25;               // of each coordinate's range
    std::size_t found;                // step * points + point of the first counterexample of this rank
    std::mutex mutex{};               // for `found`, and `confirm`
  };

  struct worst_form {
    double value = 0;             // the largest form at the point; at most 0 if all constraints hold
    std::vector<float> gradient;  // [inputs] of that form
  };

  /// One thread's machine, or that of all.
  class walker final {
   public:
    walker(member_type const& member, std::size_t row_bytes) : machine_(member), bounds_(machine_, row_bytes) {}
    walker(walker const&) = delete;  // bounds_ borrows the machine
    walker& operator=(walker const&) = delete;
    ~walker() = default;

    void stop_at(deadline const& end) { bounds_.stop_at(end); }

    /// Takes points, whose first has the number `number`, through the steps of the leg, until there is a counterexample
    /// before theirs.
    void walk(leg& now, std::span<attack_point> points, std::size_t number) {
      for (std::size_t round = now.first; round < now.last; ++round) {
        {
          std::lock_guard const lock(now.mutex);
          if (now.found < round * now.points + number) return;
        }
        auto const worst = gradients(*now.spec, points);
        for (std::size_t p = 0; p < points.size(); ++p) {
          if (worst[p].value > 0 || number + p >= now.own_end) continue;
          std::size_t const place = round * now.points + number + p;
          std::lock_guard const lock(now.mutex);
          if (now.found < place) return;
          if (now.end != nullptr && now.end->passed_here())
            break;  // confirming takes far longer than a point of the batch
          if ((*now.confirm)(coordinates(points[p].at))) {
            now.found = place;
            return;
          }
        }
        for (std::size_t p = 0; p < points.size(); ++p) descend(points[p], *now.spec, worst[p].gradient, now.step);
      }
    }

   private:
    /// The largest form of each point, and its gradient.
    std::vector<worst_form> gradients(specification const& spec, std::span<attack_point const> points) {
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

    M machine_;
    propagation<Net, M> bounds_;
  };

  /// Enough for so many parts; all stop at `end`.
  void make_walkers(std::size_t parts, deadline const& end) {
    std::size_t const most = apart_ ? std::min(M::workers(own_), most_walkers()) : 1;
    std::size_t const wanted = std::clamp<std::size_t>(parts, 1, most);
    while (walkers_.size() < wanted) {
      walkers_.push_back(std::make_unique<walker>(own_, apart_ ? std::min(row_bytes_, part_bytes) : row_bytes_));
    }
    for (auto const& one : walkers_) one->stop_at(end);
  }
  static constexpr std::size_t part_bytes = std::size_t{1} << 20;  // rows of a walker among others

  /// Walkers that reserve a gigabyte together, at least one: each has scratch for all threads, of which it uses one.
  [[nodiscard]] static std::size_t most_walkers() {
    std::size_t const each =
        memory_of<Net, M>::total({hidden_bounds::crown, part_points, part_bytes, true, 1, M::threads()});
    return std::max<std::size_t>(1, (std::size_t{1} << 30) / each);
  }

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

  member_type ranks_;  // for what ranks divide
  member_type own_;    // for passes over a rank's points
  bool apart_;         // each thread takes points of its own
  std::size_t row_bytes_;
  std::vector<std::unique_ptr<walker>> walkers_;
};

}  // namespace hull
