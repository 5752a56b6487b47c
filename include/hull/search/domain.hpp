// SPDX-License-Identifier: Apache-2.0
// Sub-problems of branch and bound: which splits lead to them, what their bounds are, and where their rows start.
// Structure of arrays; a domain is its slot.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <hull/propagate/free.hpp>

namespace hull {

/// All splits that were ever made. A node is a domain's list of splits: its own and those of its ancestors.
class split_tree final {
 public:
  static constexpr index_t root = 0;

  [[nodiscard]] index_t add(index_t parent, split made) {
    parent_.push_back(parent);
    made_.push_back(made);
    return static_cast<index_t>(parent_.size() - 1);
  }

  /// Splits from the root to the node, which are as many as there is room for.
  void path(index_t node, std::span<split> splits) const {
    for (std::size_t q = splits.size(); q > 0; node = parent_[node]) splits[--q] = made_[node];
  }

  [[nodiscard]] std::size_t bytes() const { return parent_.size() * (sizeof(index_t) + sizeof(split)); }

 private:
  std::vector<index_t> parent_{root};
  std::vector<split> made_{split{}};
};

/// Open domains. Each has up to `tracks` rows, of which one has to be proved.
class domain_store final {
 public:
  static constexpr std::size_t candidates = 6;  // neurons that might be split next
  static constexpr index_t none = ~index_t{0};

  domain_store(std::size_t tracks, std::size_t width) : tracks_(tracks), width_(width) {}

  /// A new domain: node in the split tree, number of the disjunct, number of splits, the track nearest to a proof,
  /// bounds [track], candidates. Returns its slot.
  [[nodiscard]] index_t add(index_t at, index_t disjunct, std::size_t splits, std::size_t nearest,
                            std::span<double const> bounds, std::span<index_t const> next) {
    index_t const slot = unused();
    node[slot] = at;
    target[slot] = disjunct;
    depth[slot] = static_cast<index_t>(splits);
    critical[slot] = static_cast<index_t>(nearest);
    worst[slot] = bounds[nearest];
    std::copy(bounds.begin(), bounds.end(), bound.data() + slot * tracks_);
    std::copy(next.begin(), next.end(), candidate.data() + slot * candidates);
    return slot;
  }

  void remove(index_t slot) {
    forget(slot);
    unused_.push_back(slot);
  }

  [[nodiscard]] static std::vector<packed_alpha> packed(std::span<float const> alpha) {
    std::vector<packed_alpha> kept(alpha.size());
    std::transform(alpha.begin(), alpha.end(), kept.begin(), pack_alpha);
    return kept;
  }

  /// Keeps where the rows of a domain shall start: packed alphas [tracks, width], and betas [tracks, splits]. `here`
  /// false: another rank does; sizes are noted alike, so that all ranks see the same work list.
  void remember(index_t slot, std::vector<packed_alpha> alpha, std::vector<float> beta, bool here = true) {
    forget(slot);
    started_[slot] = 1;
    warm_bytes_ += warm(slot);
    if (!here) return;
    alpha_[slot] = std::move(alpha);
    beta_[slot] = std::move(beta);
    kept_bytes_ += warm(slot);
    most_kept_ = std::max(most_kept_, kept_bytes_);
  }
  void forget(index_t slot) {
    if (started_[slot]) warm_bytes_ -= warm(slot);
    if (!alpha_[slot].empty()) kept_bytes_ -= warm(slot);
    started_[slot] = 0;
    alpha_[slot] = {};
    beta_[slot] = {};
  }

  /// Numbers that remember() has kept for these domains, on whatever rank: [of each in turn: alphas, betas], zero where
  /// they are not here. Where they were forgotten there are none.
  [[nodiscard]] std::vector<float> kept(std::span<index_t const> slots) const {
    std::vector<float> numbers;
    for (index_t const slot : slots) {
      if (!started_[slot]) continue;
      std::size_t const begin = numbers.size();
      numbers.resize(begin + tracks_ * (width_ + depth[slot]), 0.0f);
      std::copy(alpha_[slot].begin(), alpha_[slot].end(), numbers.begin() + static_cast<std::ptrdiff_t>(begin));
      std::copy(beta_[slot].begin(), beta_[slot].end(),
                numbers.begin() + static_cast<std::ptrdiff_t>(begin + tracks_ * width_));
    }
    return numbers;
  }
  /// Takes them over where they are not here, until the domain is removed.
  void lend(std::span<index_t const> slots, std::span<float const> numbers) {
    for (index_t const slot : slots) {
      if (!started_[slot]) continue;
      auto const alphas = numbers.first(tracks_ * width_);
      auto const betas = numbers.subspan(alphas.size(), tracks_ * depth[slot]);
      numbers = numbers.subspan(alphas.size() + betas.size());
      if (!alpha_[slot].empty()) continue;
      alpha_[slot].assign(alphas.begin(), alphas.end());
      beta_[slot].assign(betas.begin(), betas.end());
      kept_bytes_ += warm(slot);
      most_kept_ = std::max(most_kept_, kept_bytes_);
    }
  }

  /// Alphas of one track, until the domain is removed; `otherwise` where they were forgotten.
  [[nodiscard]] packed_alpha const* start(index_t slot, std::size_t track, packed_alpha const* otherwise) const {
    return alpha_[slot].empty() ? otherwise : alpha_[slot].data() + track * width_;
  }
  /// Multiplier of split q of a track.
  [[nodiscard]] float beta(index_t slot, std::size_t track, std::size_t q) const {
    std::size_t const splits = depth[slot];
    return beta_[slot].empty() ? 0.0f : beta_[slot][track * splits + q];
  }

  /// Bytes in use on this rank, with the most that it has kept or borrowed of the starts of rows.
  [[nodiscard]] std::size_t here_bytes() const { return node.size() * least_bytes() + most_kept_; }

  /// Bytes in use, of all ranks, and those that a domain needs at least.
  [[nodiscard]] std::size_t bytes() const { return node.size() * least_bytes() + warm_bytes_; }
  [[nodiscard]] std::size_t least_bytes() const {
    return 5 * sizeof(index_t) + (tracks_ + 1) * sizeof(double) + candidates * sizeof(index_t) + sizeof(alpha_[0]) +
           sizeof(beta_[0]);
  }
  [[nodiscard]] std::size_t tracks() const { return tracks_; }
  [[nodiscard]] std::size_t width() const { return width_; }

  std::vector<index_t> node;       // [slot] in the split tree
  std::vector<index_t> target;     // [slot] number of the disjunct that is to be refuted
  std::vector<index_t> depth;      // [slot] number of splits
  std::vector<index_t> critical;   // [slot] the track nearest to a proof
  std::vector<double> worst;       // [slot] its bound
  std::vector<double> bound;       // [slot, track]
  std::vector<index_t> candidate;  // [slot, candidates] parameters, `none` behind the last

 private:
  /// A slot whose contents are not initialised.
  [[nodiscard]] index_t unused() {
    if (!unused_.empty()) {
      index_t const slot = unused_.back();
      unused_.pop_back();
      return slot;
    }
    auto const slot = static_cast<index_t>(node.size());
    for (auto* column : {&node, &target, &depth, &critical}) column->push_back(0);
    worst.push_back(0);
    bound.resize(bound.size() + tracks_);
    candidate.resize(candidate.size() + candidates);
    started_.push_back(0);
    alpha_.emplace_back();
    beta_.emplace_back();
    return slot;
  }

  [[nodiscard]] std::size_t warm(index_t slot) const {
    return tracks_ * (width_ * sizeof(packed_alpha) + depth[slot] * sizeof(float));
  }

  std::size_t tracks_, width_;
  std::size_t warm_bytes_ = 0;  // of all ranks
  std::size_t kept_bytes_ = 0, most_kept_ = 0;
  std::vector<index_t> unused_;
  std::vector<char> started_;                     // [slot] whether a rank has the following
  std::vector<std::vector<packed_alpha>> alpha_;  // [slot][track, width] or nothing
  std::vector<std::vector<float>> beta_;          // [slot][track, splits] or nothing
};

}  // namespace hull
