// SPDX-License-Identifier: Apache-2.0
// Multipliers of a domain's splits from a linear program over the input, where gradient steps are too coarse.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <hull/propagate/alpha.hpp>
#include <hull/search/box_program.hpp>

namespace hull {

/// The splits of one domain as lines over the live inputs. In a domain where every neuron that matters is split, these
/// and a row are the whole domain; elsewhere they are a relaxation of it.
class domain_program final {
 public:
  /// Bytes for `splits` splits over `inputs` live inputs, the program's table included.
  [[nodiscard]] static std::size_t bytes(std::size_t inputs, std::size_t splits) {
    return splits * inputs * sizeof(float) + splits * (inputs + splits) * sizeof(double);
  }

  /// Reads the lines; `reach` [live inputs]: half the widths of the box. `note(view)` sees each line as a row. Cost: a
  /// backward pass of one row for each split.
  template <class Climber, class Note>
  domain_program(Climber& climber, form_task const& task, std::span<float const> reach, Note&& note)
      : lines_(task.splits.size()), reach_(reach.begin(), reach.end()) {
    climber.split_rows({&task, 1}, [&](std::size_t q, split_line const& found, auto const& view) {
      float const* const a = view.coefficients(0);
      if (std::isfinite(found.rest)) lines_[q] = {{a, a + reach_.size()}, found.rest, found.scale};
      note(view);
    });
  }

  /// Gives the task those multipliers that bound it best while its alphas stay, which nobody has to believe: they are
  /// proposals. Returns the deviation of the live inputs at which they attain their bound, or nothing if there is none.
  template <class Climber>
  [[nodiscard]] std::vector<double> propose(Climber& climber, form_task const& task) const {
    std::vector<float> none(task.splits.size(), 0.0f), form;
    form_task plain = task;
    plain.beta = none.data();
    plain.bound = -std::numeric_limits<double>::infinity();
    climber.climb({&plain, 1}, ascent{.steps = 0}, [&](auto const& rows) {
      auto const& view = rows[0];
      float const* const a = view.coefficients(0);
      form.assign(a, a + reach_.size());
    });
    double rest = plain.bound, size = std::fabs(plain.bound);
    for (std::size_t c = 0; c < reach_.size(); ++c) {
      double const part = static_cast<double>(std::fabs(form[c])) * reach_[c];
      rest += part;
      size += part;
    }
    if (reach_.empty() || !std::isfinite(size)) return {};

    box_program program(reach_, form, rest);
    std::vector<std::size_t> which;
    for (std::size_t q = 0; q < lines_.size(); ++q) {
      if (!(lines_[q].scale > 0)) continue;
      program.constrain(lines_[q].a, lines_[q].rest);
      which.push_back(q);
    }
    double const enough = 1e-2 * size;  // more than rounding can eat
    bool const solvable = program.solve(enough);
    std::vector<double> const multipliers = program.multipliers(enough);
    std::fill_n(task.beta, task.splits.size(), 0.0f);
    for (std::size_t k = 0; k < which.size(); ++k) {
      float const beta = static_cast<float>(multipliers[k] / lines_[which[k]].scale);
      task.beta[which[k]] = beta > 0 && std::isfinite(beta) ? beta : 0.0f;
    }
    return solvable ? program.point() : std::vector<double>{};
  }

 private:
  struct line {
    std::vector<float> a;
    double rest = 0;
    double scale = 0;  // 0: nothing is known
  };

  std::vector<line> lines_;    // [split] a x + rest <= 0
  std::vector<double> reach_;  // [live inputs]
};

}  // namespace hull
