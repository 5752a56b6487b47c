// SPDX-License-Identifier: Apache-2.0
// Names of free parameters that all ranks share, where each rank has parameters of its own neurons only.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <hull/net/divide.hpp>
#include <hull/net/fuse.hpp>
#include <hull/propagate/free.hpp>

namespace hull {

/// Free columns of one stage, of every rank that divides its neurons.
struct column_counts final {
  std::vector<std::size_t> of;  // [rank], or one number if all ranks have the same columns
  std::size_t mine = 0;         // which of them is this rank's
};

/// A split names its parameter by a number that is the same on all ranks: numbers run from stage to stage and, in a
/// stage whose neurons are divided (TensorParallel), from rank to rank. For a network that is not divided a number is
/// the place of the parameter in a row.
template <Network Net>
class parameter_numbers final {
 public:
  static constexpr bool divided = ranks_of<Net> > 1;
  static constexpr index_t foreign = ~index_t{0};  // a parameter of another rank

  /// Stage `k` has these columns; on this rank their parameters begin at `offset`. Stages in order.
  void note(std::size_t k, column_counts const& columns, std::size_t offset) {
    if constexpr (!divided) return;
    range& r = stage_[k];
    r.first = k > 0 ? stage_[k - 1].last : 0;
    r.last = r.first;
    r.divided = columns.of.size() > 1;
    r.offset = offset;
    for (std::size_t rank = 0; rank < columns.of.size(); ++rank) {
      if (rank == columns.mine) r.own = r.last;
      r.last += columns.of[rank];
    }
    r.count = columns.of[columns.mine];
    for (std::size_t rank = 0; rank < widths_.size(); ++rank) {
      widths_[rank][k] = columns.of[r.divided ? rank : 0];
    }
  }

  /// The number of this rank's parameter `p` of stage `k`.
  [[nodiscard]] index_t number(std::size_t k, std::size_t p) const {
    return static_cast<index_t>(divided ? p - stage_[k].offset + stage_[k].own : p);
  }

  /// This rank's parameter with that number, or `foreign`.
  [[nodiscard]] index_t here(index_t number) const {
    if constexpr (divided) {
      for (range const& r : stage_) {
        if (number >= r.own && number < r.own + r.count) return static_cast<index_t>(number - r.own + r.offset);
      }
      return foreign;
    } else {
      return number;
    }
  }

  /// Whether a parameter with that number, of any rank, belongs to stage `k`, whose columns here are `f`.
  [[nodiscard]] bool belongs(index_t number, std::size_t k, free_columns const& f) const {
    if constexpr (!divided) return number >= f.offset && number < f.offset + f.count;
    return number >= stage_[k].first && number < stage_[k].last;
  }

  /// Whether the neurons of stage `k` are divided.
  [[nodiscard]] bool divides(std::size_t k) const { return divided && stage_[k].divided; }

  /// Most parameters that a row has on any rank; `here` are this one's.
  [[nodiscard]] std::size_t width(std::size_t here) const {
    std::size_t most = divided ? 0 : here;
    for (auto const& stages : widths_) {
      std::size_t sum = 0;
      for (std::size_t const count : stages) sum += count;
      most = std::max(most, sum);
    }
    return most;
  }

 private:
  struct range {
    std::size_t first = 0, last = 0;  // numbers of the stage
    std::size_t own = 0, count = 0;   // those of this rank begin here
    std::size_t offset = 0;           // its parameters begin here
    bool divided = false;
  };

  std::array<range, stage_count<Net>> stage_{};
  std::array<std::array<std::size_t, stage_count<Net>>, divided ? ranks_of<Net> : 0> widths_{};  // [rank][stage]
};

}  // namespace hull
