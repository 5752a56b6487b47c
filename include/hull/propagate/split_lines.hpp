// SPDX-License-Identifier: Apache-2.0
// Splits of one stage as rows: which neuron each starts at, and what is left of it at the input.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include <hull/propagate/free.hpp>
#include <hull/propagate/parameter_numbers.hpp>
#include <hull/propagate/state.hpp>

namespace hull {

/// A split in terms of the input: (coefficients of the input) + rest <= 0, where a multiplier of 1 is a beta of
/// 1 / scale. Scale 0: it says nothing.
struct split_line final {
  double rest = 0, scale = 0;
};

/// On the host; what it needs of the stage is copied from the machine's memory once.
template <Network Net>
class split_lines final {
 public:
  template <class M>
  split_lines(M const& machine, network_state<Net> const& state, free_state<Net> const& free, std::size_t k) {
    auto const& s = state.stage[k];
    auto const& f = free.stage[k];
    offset_ = f.offset;
    auto const copy = [&](auto& to, auto const* from, std::size_t count) {
      to.resize(count);
      machine.read(to.data(), from, count);
    };
    copy(column_, f.column, f.count);
    copy(lower_slope_, f.kink.lower_slope, f.count);
    copy(upper_slope_, f.kink.upper_slope, f.count);
    copy(lower_shift_, f.kink.lower_shift, f.count);
    copy(upper_shift_, f.kink.upper_shift, f.count);
    copy(live_, s.live, s.live_count);
    copy(origin_, s.origin, s.size);
    copy(reach_, state.stage[0].reach, state.stage[0].live_count);
  }

  [[nodiscard]] std::size_t size() const { return sign_.size(); }

  /// The next row, for a split whose parameter here is `p`; of another rank's neuron, it begins as zero.
  void add(split const& one, index_t p) {
    index_.push_back(0);
    sign_.push_back(0);
    scale_.push_back(0);
    rest_.push_back(0);
    if (p == parameter_numbers<Net>::foreign) return;
    std::size_t const at = p - offset_;
    bool const above = one.sign > 0;  // then -z <= 0
    float const slope = above ? -upper_slope_[at] : lower_slope_[at];
    float const shift = above ? -upper_shift_[at] : lower_shift_[at];
    index_.back() = live_[column_[at]];
    sign_.back() = slope > 0 ? 1.0f : -1.0f;
    scale_.back() = std::fabs(slope);
    if (scale_.back() > 0) rest_.back() = shift / scale_.back() - sign_.back() * origin_[index_.back()];
  }

  /// Every rank gets the lines of all.
  template <class M>
  void add_parts(M const& machine) {
    machine.add_parts(scale_.data(), scale_.size());
    machine.add_parts(rest_.data(), rest_.size());
  }

  template <class M>
  void send(M const& machine, row_block const& rows) const {
    std::vector<index_t> const box(size(), 0);
    machine.write(rows.box, box.data(), size());
    machine.write(rows.index, index_.data(), size());
    machine.write(rows.sign, sign_.data(), size());
  }

  /// The line of row r, whose bound over the box is `bound` and whose coefficients of the input are `a`.
  [[nodiscard]] split_line of(std::size_t r, double bound, float const* a) const {
    double rest = bound + rest_[r];
    for (std::size_t c = 0; c < reach_.size(); ++c) rest += static_cast<double>(std::fabs(a[c])) * reach_[c];
    return {rest, scale_[r]};
  }

 private:
  std::size_t offset_ = 0;
  std::vector<index_t> column_, live_;
  std::vector<float> lower_slope_, upper_slope_, lower_shift_, upper_shift_, reach_;
  std::vector<double> origin_;
  std::vector<index_t> index_;        // [row]
  std::vector<float> sign_;           // [row]
  std::vector<double> scale_, rest_;  // [row]
};

}  // namespace hull
