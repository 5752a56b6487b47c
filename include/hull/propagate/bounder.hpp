// SPDX-License-Identifier: Apache-2.0
// The short way to bounds: a network with its numbers and its machine, asked about one box at a time.
// Batches of boxes, deadlines and byte budgets are the business of propagation.hpp, on which this stands.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <hull/net/parameters.hpp>
#include <hull/propagate/propagation.hpp>

namespace hull {

/// A set of inputs: one closed range for each coordinate.
using input_box = std::vector<input_range>;

/// Every coordinate of `centre` may move by `radius`; the box contains the exact one.
/// Throws hull::error if a coordinate or the radius is not finite, or the radius is negative.
[[nodiscard]] inline input_box box_around(std::vector<float> const& centre, double radius) {
  expect(radius >= 0 && std::isfinite(radius), "box_around: the radius is negative or not finite");
  input_box region;
  for (float const c : centre) {
    expect(std::isfinite(c), "box_around: a coordinate of the centre is not finite");
    region.push_back({down::sub(static_cast<double>(c), radius), up::add(static_cast<double>(c), radius)});
  }
  return region;
}

/// The linear form y_i.
[[nodiscard]] inline linear_constraint output_form(std::size_t i) { return {{{i, 1.0}}, {}, 0, false}; }

/// The linear form y_i - y_k: where it is positive, output i beats output k.
[[nodiscard]] inline linear_constraint margin_form(std::size_t i, std::size_t k) {
  return {{{i, 1.0}, {k, -1.0}}, {}, 0, false};
}

/// `M` is a Machine; its rounding decides whether bounds are sound in floating point (docs/soundness.md).
template <Network Net, class M>
class bounder final {
 public:
  /// `source` as parameters<Net> takes it: a parameter_table, or any function from keys to parameter_values.
  template <class Source>
  explicit bounder(Source const& source) : numbers_(source), machine_(numbers_), all_(machine_) {}
  bounder(bounder const&) = delete;  // the machine borrows the numbers
  bounder& operator=(bounder const&) = delete;
  ~bounder() = default;

  /// Lower bounds of linear forms over a box, by interval arithmetic. Returns [forms]; -infinity: no bound.
  /// Throws hull::error if box or forms do not fit the network.
  [[nodiscard]] std::vector<double> ibp(input_box const& region, std::vector<linear_constraint> const& forms) {
    return lower_bounds(region, forms, hidden_bounds::interval);
  }

  /// The same by CROWN: tighter, at the cost of one backward pass for each stage with unstable neurons.
  [[nodiscard]] std::vector<double> crown(input_box const& region, std::vector<linear_constraint> const& forms) {
    return lower_bounds(region, forms, hidden_bounds::crown);
  }

  /// Both bounds of every output over a box. Returns [outputs].
  [[nodiscard]] std::vector<interval<double>> ibp(input_box const& region) {
    return outputs(region, hidden_bounds::interval);
  }
  [[nodiscard]] std::vector<interval<double>> crown(input_box const& region) {
    return outputs(region, hidden_bounds::crown);
  }

 private:
  std::vector<double> lower_bounds(input_box const& region, std::vector<linear_constraint> const& forms,
                                   hidden_bounds method) {
    for (auto const& range : region) {
      bool const finite = std::isfinite(range.lower) && std::isfinite(range.upper);
      expect(finite && range.lower <= range.upper, "bounder: a range of the box is empty or not finite");
    }
    std::vector<row_form> rows;
    for (auto const& form : forms) {
      check(form.outputs, graph<Net>::output_size, "outputs");
      check(form.inputs, graph<Net>::input_size, "inputs");
      rows.push_back({0, &form});
    }
    std::vector<input_range> const* const one = &region;
    all_.run({&one, 1}, method);
    return method == hidden_bounds::crown ? all_.lower_bounds(rows) : all_.interval_bounds(rows);
  }

  static void check(std::vector<term> const& terms, std::size_t count, char const* what) {
    for (auto const& t : terms) {
      expect(t.index < count, "bounder: a form names number " + std::to_string(t.index) + " of the " + what +
                                  ", the network has " + std::to_string(count));
      expect(std::isfinite(t.coefficient), "bounder: a coefficient of a form is not finite");
    }
  }

  std::vector<interval<double>> outputs(input_box const& region, hidden_bounds method) {
    std::vector<linear_constraint> forms;
    for (std::size_t i = 0; i < graph<Net>::output_size; ++i) {
      forms.push_back(output_form(i));
      forms.push_back({{{i, -1.0}}, {}, 0, false});
    }
    auto const lower = lower_bounds(region, forms, method);
    std::vector<interval<double>> both;
    for (std::size_t i = 0; i < lower.size(); i += 2) both.push_back({lower[i], -lower[i + 1]});
    return both;
  }

  parameters<Net> numbers_;
  M machine_;
  propagation<Net, M> all_;
};

}  // namespace hull
