// SPDX-License-Identifier: Apache-2.0
// The checker's backward half: linear bounds (CROWN, Zhang et al. 2018) in double. Written apart from the prover: no
// code of net/, propagate/, backend/ or search/ but the type of a certificate.
//
// For every x of the box and every row   form(x) >= value - slack + sum over steps of A . y(x)   in exact arithmetic;
// slack grows by the error of every sum: gamma of its roundings, times |A| times the magnitudes it is multiplied with.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/io/check/intervals.hpp>
#include <hull/io/check/network.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/search/certificate.hpp>

namespace hull::io::check {

/// A split of the path to a leaf, with its multiplier.
struct active_split final {
  kink where;
  bool positive = true;
  double beta = 0;
};

/// What a row brings along: slopes for the parameters of the hints (none: CROWN's own), and splits.
struct row_parameters final {
  std::span<float const> alpha{};
  std::span<active_split const> splits{};
};

class bounds final : public intervals {
 public:
  /// Intervals alone, or with backward rows for the hidden values that gain from them. Throws deadline_passed.
  bounds(network const& net, std::vector<input_range> const& box, proof_hints const* hints, bool with_rows,
         deadline end = {})
      : intervals(net, box), hints_(hints), end_(std::move(end)), parameters_(count()) {
    for (std::size_t p = 0; hints != nullptr && p < hints->parameters.size(); ++p) {
      parameters_[hints->parameters[p].node].emplace_back(hints->parameters[p].element, p);
    }
    for (std::size_t s = 0; s < count(); ++s) {
      forward(s);
      if (with_rows) tighten(s);
      size_[s] = lower_[s].cwiseAbs().cwiseMax(upper_[s].cwiseAbs());
    }
  }

  /// Lower bounds of forms [r], each with its own parameters; NaN proves nothing, +infinity says that no point has the
  /// signs of the splits.
  [[nodiscard]] std::vector<double> lower_bounds(std::span<linear_constraint const* const> forms,
                                                 std::span<row_parameters const> parameters) const {
    rows work = start(forms.size());
    row_matrix& out = work.a[count() - 1];
    out = row_matrix::Zero(as_index(forms.size()), as_index(net_->outputs()));
    for (std::size_t r = 0; r < forms.size(); ++r) {
      auto const row = as_index(r);
      work.value[row] = forms[r]->constant;
      double magnitude = 0;
      for (term const& t : forms[r]->outputs) {
        out(row, as_index(t.index)) += t.coefficient;
        magnitude += std::fabs(t.coefficient) * size_.back()[as_index(t.index)];
      }
      work.slack[row] = gamma(forms[r]->outputs.size()) * magnitude;
    }
    bool const with_inputs = std::any_of(forms.begin(), forms.end(), [](auto const* f) { return !f->inputs.empty(); });
    if (with_inputs && count() > 1) {
      row_matrix in = row_matrix::Zero(as_index(forms.size()), as_index(net_->inputs()));
      seed_inputs(forms, in, work);
      work.a[0] = std::move(in);
    } else if (with_inputs) {
      seed_inputs(forms, out, work);
    }
    back(count() - 1, work, parameters);
    for (std::size_t r = 0; r < parameters.size(); ++r) {
      for (active_split const& one : parameters[r].splits) {
        auto const z = clamped(one);
        if (z.first > z.second) work.bound[as_index(r)] = std::numeric_limits<double>::infinity();
      }
    }
    return {work.bound.data(), work.bound.data() + work.bound.size()};
  }

 private:
  static constexpr std::size_t chunk = 64;

  struct rows final {
    std::vector<row_matrix> a;  // [step] coefficients [row, element]; empty where there are none
    vector value, slack, bound;
  };

  [[nodiscard]] rows start(std::size_t number) const {
    rows work;
    work.a.resize(count());
    work.value = work.slack = work.bound = vector::Zero(as_index(number));
    return work;
  }

  static void seed_inputs(std::span<linear_constraint const* const> forms, row_matrix& in, rows& work,
                          vector const& size) {
    for (std::size_t r = 0; r < forms.size(); ++r) {
      double magnitude = 0;
      for (term const& t : forms[r]->inputs) {
        in(as_index(r), as_index(t.index)) += t.coefficient;
        magnitude += std::fabs(t.coefficient) * size[as_index(t.index)];
      }
      work.slack[as_index(r)] += gamma(2 * forms[r]->inputs.size() + forms[r]->outputs.size()) * magnitude;
    }
  }
  void seed_inputs(std::span<linear_constraint const* const> forms, row_matrix& in, rows& work) const {
    seed_inputs(forms, in, work, size_[0]);
  }

  // ---- hidden values by backward rows ----

  void tighten(std::size_t number) {
    step const& s = at(number);
    if (s.affine() && !s.elementwise && !exact(s)) {
      std::vector<hint_row> both;
      for (std::uint32_t const i : wanted(number)) {
        both.push_back({static_cast<std::uint32_t>(number), i, false, {}});
        both.push_back({static_cast<std::uint32_t>(number), i, true, {}});
      }
      run_rows(number, both);
    }
    if (hints_ == nullptr) return;
    std::vector<hint_row> mine;
    for (hint_row const& row : hints_->rows) {
      if (row.node == number) mine.push_back(row);
    }
    run_rows(number, mine);
  }

  /// Intervals lose nothing: the operand's image of the box is a box.
  [[nodiscard]] bool exact(step const& s) const { return s.inputs.size() == 1 && at(s.inputs[0]).elementwise; }

  /// Elements whose relaxation in a later step gains from tighter bounds.
  [[nodiscard]] std::vector<std::uint32_t> wanted(std::size_t number) const {
    std::vector<char> gains(at(number).size, 0);
    vector const &low = lower_[number], &high = upper_[number];
    for (step const& next : net_->steps()) {
      if (next.affine() || next.inputs.empty() || next.inputs[0] != number) continue;
      for (std::size_t i = 0; i < gains.size() && next.kind != step_kind::largest; ++i) {
        bool const straddles = low[as_index(i)] < 0 && high[as_index(i)] > 0;
        if (next.kind == step_kind::curved || straddles) gains[i] = 1;
      }
      for (auto const& seen : next.members) {
        auto const pick = *std::max_element(seen.begin(), seen.end(), [&](auto a, auto b) { return low[a] < low[b]; });
        bool const certain =
            std::all_of(seen.begin(), seen.end(), [&](auto i) { return i == pick || high[i] <= low[pick]; });
        if (certain) continue;
        for (auto const i : seen) gains[i] = 1;
      }
    }
    std::vector<std::uint32_t> list;
    for (std::uint32_t i = 0; i < gains.size(); ++i) {
      if (gains[i]) list.push_back(i);
    }
    return list;
  }

  /// Rows run in chunks, side by side unless this box is one of several that already do.
  void run_rows(std::size_t number, std::vector<hint_row> const& list) {
    std::vector<double> bound(list.size());
    std::vector<std::exception_ptr> thrown((list.size() + chunk - 1) / chunk);
    auto const chunks = static_cast<std::ptrdiff_t>(thrown.size());
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) if (chunks > 1)
#endif
    for (std::ptrdiff_t c = 0; c < chunks; ++c) {
      std::size_t const first = static_cast<std::size_t>(c) * chunk;
      std::size_t const some = std::min(chunk, list.size() - first);
      try {
        end_.check();
        run_chunk(number, {list.data() + first, some}, bound.data() + first);
      } catch (...) {  // must not leave the parallel loop
        thrown[static_cast<std::size_t>(c)] = std::current_exception();
      }
    }
    for (auto const& one : thrown) {
      if (one != nullptr) std::rethrow_exception(one);
    }
    for (std::size_t r = 0; r < list.size(); ++r) {
      double &low = lower_[number][list[r].element], &high = upper_[number][list[r].element];
      if (!list[r].upper && bound[r] > low) low = bound[r];  // false for NaN
      if (list[r].upper && -bound[r] < high) high = -bound[r];
    }
  }

  void run_chunk(std::size_t number, std::span<hint_row const> list, double* bound) const {
    rows work = start(list.size());
    std::vector<row_parameters> parameters(list.size());
    row_matrix& a = work.a[number];
    a = row_matrix::Zero(as_index(list.size()), as_index(at(number).size));
    bool any_alpha = false;
    for (std::size_t r = 0; r < list.size(); ++r) {
      a(as_index(r), list[r].element) = list[r].upper ? -1 : 1;
      parameters[r].alpha = list[r].alpha;
      any_alpha = any_alpha || !list[r].alpha.empty();
    }
    if (!any_alpha) parameters.clear();
    back(number, work, parameters);
    std::copy(work.bound.begin(), work.bound.end(), bound);
  }

  // ---- backward ----

  void back(std::size_t top, rows& work, std::span<row_parameters const> parameters) const {
    for (std::size_t s = top; s > 0; --s) {
      if (work.a[s].size() == 0) continue;
      if (at(s).affine()) {
        back_affine(s, work);
      } else {
        back_lines(s, work, parameters);
      }
      work.a[s].resize(0, 0);
    }
    row_matrix const& a = work.a[0];
    work.bound = work.value;
    vector magnitude = work.value.cwiseAbs();
    if (a.size() != 0) {
      work.bound += a.cwiseMax(0) * lower_[0] + a.cwiseMin(0) * upper_[0];
      magnitude += a.cwiseAbs() * size_[0];
    }
    double const share = 2 * gamma(2 * net_->inputs());
    work.bound -= 1.01 * work.slack + share * magnitude + vector::Constant(magnitude.size(), floor_of(0));
  }

  /// Adds to what other readers of the step have left there.
  void add(std::size_t target, row_matrix&& more, rows& work) const {
    row_matrix& a = work.a[target];
    if (a.size() == 0) {
      a = std::move(more);
    } else {
      a += more;
      work.slack += 0x1.1p-53 * (a.cwiseAbs() * size_[target]);
    }
  }

  /// What a step's constants add to the value, and its sums to the slack.
  static void settle(rows& work, vector const& constant, vector const& magnitude, double share) {
    work.value += constant;
    work.slack +=
        share * magnitude + 0x1.1p-52 * work.value.cwiseAbs() + vector::Constant(magnitude.size(), floor_of(0));
  }

  void back_affine(std::size_t number, rows& work) const {
    step const& s = at(number);
    row_matrix const& a = work.a[number];
    double const share = 1.01 * (gamma(s.backward_terms + s.size) + s.weight_error);
    double total = 0;
    for (auto const i : s.inputs) total += size_[i].sum();
    settle(work, a * s.bias, a.cwiseAbs() * reach_[number], share);
    work.slack.array() += floor_of(total);
    if (s.kind == step_kind::dense) return add(s.inputs[0], a * s.weight, work);
    std::vector<row_matrix> more;
    for (auto const i : s.inputs) more.emplace_back(row_matrix::Zero(a.rows(), as_index(at(i).size)));
    auto const windows = as_index(s.windows), groups = as_index(s.groups);
    for (index r = 0; r < a.rows(); ++r) {
      if (s.kind == step_kind::sparse) {
        for (entry const& one : s.entries) more[one.operand](r, one.in) += one.weight * a(r, one.out);
        continue;
      }
      auto const each = s.weight.rows() / groups;
      for (index g = 0; g < groups; ++g) {
        Eigen::Map<row_matrix const> const windows_of(a.row(r).data() + g * each * windows, each, windows);
        row_matrix const patches = s.weight.middleRows(g * each, each).transpose() * windows_of;
        std::int32_t const* seen = s.seen.data() + static_cast<std::size_t>(g) * s.taps * s.windows;
        double* const to = more[0].row(r).data();
        for (index i = 0; i < patches.size(); ++i) {
          if (seen[i] >= 0) to[seen[i]] += patches.data()[i];
        }
      }
    }
    for (std::size_t i = 0; i < s.inputs.size(); ++i) add(s.inputs[i], std::move(more[i]), work);
  }

  void back_lines(std::size_t number, rows& work, std::span<row_parameters const> parameters) const {
    step const& s = at(number);
    std::size_t const from = s.inputs[0];
    row_matrix const& a = work.a[number];
    row_matrix moved = row_matrix::Zero(a.rows(), as_index(at(from).size));
    vector constant(a.rows()), magnitude(a.rows());
    step_lines own;
    for (index r = 0; r < a.rows(); ++r) {
      bool const special = s.kind == step_kind::kinked && !parameters.empty();
      if (special) {
        own = lines_[number];
        choose(number, parameters[static_cast<std::size_t>(r)], own);
      }
      step_lines const& l = special ? own : lines_[number];
      double sum = 0, far = 0;
      for (index i = 0; i < a.cols(); ++i) {
        double const x = a(r, i);
        bool const positive = x >= 0;
        double const slope = x * (positive ? l.lower_slope[i] : l.upper_slope[i]);
        index const to = s.kind == step_kind::largest ? as_index(pick_[number][static_cast<std::size_t>(i)]) : i;
        moved(r, to) += slope;
        sum += x * (positive ? l.lower_bias[i] : l.upper_bias[i]);
        far += std::fabs(x) * l.size[i];
      }
      constant[r] = sum;
      magnitude[r] = far;
    }
    settle(work, constant, magnitude, gamma(2 * s.size));  // windows may share a pick: counted as sums
    work.slack.array() += floor_of(size_[from].sum());
    for (index r = 0; r < a.rows() && s.kind == step_kind::kinked && !parameters.empty(); ++r) {
      for (active_split const& one : parameters[static_cast<std::size_t>(r)].splits) {
        if (one.where.node != number || one.beta == 0) continue;
        // z >= 0: form >= form - beta z;  z <= 0: form >= form + beta z
        double& x = moved(r, one.where.element);
        x += one.positive ? -one.beta : one.beta;
        work.slack[r] += 0x1.1p-53 * std::fabs(x) * size_[from][one.where.element];
      }
    }
    add(from, std::move(moved), work);
  }

  /// Bounds of z where its split holds.
  [[nodiscard]] std::pair<double, double> clamped(active_split const& one) const {
    std::size_t const from = at(one.where.node).inputs[0];
    double const low = lower_[from][one.where.element], high = upper_[from][one.where.element];
    return one.positive ? std::pair{std::max(low, 0.0), high} : std::pair{low, std::min(high, 0.0)};
  }

  /// Puts a row's own slopes and the sides of its splits into its lines.
  void choose(std::size_t number, row_parameters const& row, step_lines& l) const {
    step const& s = at(number);
    std::size_t const from = s.inputs[0];
    for (auto const& [element, p] : parameters_[number]) {
      if (p >= row.alpha.size()) continue;
      double const share = static_cast<double>(row.alpha[p]);
      set(l, element, kink_lines(s.leak, lower_[from][element], upper_[from][element], s.leak + share * (1 - s.leak)));
    }
    for (active_split const& one : row.splits) {
      if (one.where.node != number) continue;
      auto const [low, high] = clamped(one);
      if (low <= high) set(l, one.where.element, kink_lines(s.leak, low, high, s.leak));
    }
  }

  proof_hints const* hints_;
  deadline end_;
  std::vector<std::vector<std::pair<std::uint32_t, std::size_t>>> parameters_;  // [step] element, number of its alpha
};

}  // namespace hull::io::check
