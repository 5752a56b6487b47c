// SPDX-License-Identifier: Apache-2.0
// Writes down the proof that branch and bound over kinks finds for the disjuncts of one box.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <hull/net/fuse.hpp>
#include <hull/ops/op.hpp>
#include <hull/propagate/free.hpp>
#include <hull/propagate/state.hpp>
#include <hull/search/certificate.hpp>
#include <hull/search/domain.hpp>

namespace hull {

/// Without a certificate every call does nothing. Order of calls for a box: bounded(row) for hidden rows that were
/// optimised, begin(), root() for disjuncts refuted there, open(), then split() and leaf() as the search goes on; then
/// cut() if the search begins again on both halves of the box, and the same for each half with again() for begin().
/// Targets are disjuncts that stay open at the root; nodes are those of the search's split_tree, whose root is 0.
/// Places are nodes of a disjunct's proof_tree where a box begins.
template <Network Net>
class branch_recorder final {
 public:
  explicit branch_recorder(certificate* proof) : proof_(proof) {}

  [[nodiscard]] bool wanted() const { return proof_ != nullptr; }

  void bounded(std::size_t node, std::size_t element, bool upper, std::span<float const> alpha) {
    hints_.rows.push_back(
        {static_cast<std::uint32_t>(node), static_cast<std::uint32_t>(element), upper, {alpha.begin(), alpha.end()}});
  }

  template <class M>
  void begin(M const& machine, network_state<Net> const& state, free_state<Net> const& free) {
    if (!wanted()) return;
    hints_.parameters = kinks(machine, state, free);
    proof_->hints.push_back(std::exchange(hints_, {}));
    known_.clear();
    targets_.clear();
  }

  /// The same for a part of that box. It keeps the hints: its own rows are not noted, its slopes are renumbered.
  template <class M>
  void again(M const& machine, network_state<Net> const& state, free_state<Net> const& free) {
    if (!wanted()) return;
    hints_ = {};
    auto const& all = proof_->hints.back().parameters;
    known_.clear();
    for (kink const& k : kinks(machine, state, free)) {
      known_.push_back(static_cast<std::size_t>(std::find(all.begin(), all.end(), k) - all.begin()));
    }
    targets_.clear();
  }

  void root(std::size_t disjunct, std::uint32_t place, std::size_t constraint, std::span<float const> alpha) {
    if (!wanted()) return;
    own(disjunct).tree.refute(place, constraint, renumbered(alpha));
  }

  void open(std::span<std::size_t const> disjuncts, std::span<std::uint32_t const> places) {
    if (!wanted()) return;
    targets_.assign(disjuncts.begin(), disjuncts.end());
    places_.assign(places.begin(), places.end());
    begun_.clear();
    for (std::size_t const d : disjuncts) begun_.push_back(own(d).tree.nodes().size());
    leaf_.assign(1, proof_tree::root);
  }

  /// Cuts a box at a place and forgets what was found there. Returns the place of the half with x <= plane; the other
  /// comes next.
  std::uint32_t cut(std::size_t disjunct, std::uint32_t place, std::size_t coordinate, double plane) {
    if (!wanted()) return proof_tree::root;
    auto const target = std::find(targets_.begin(), targets_.end(), disjunct) - targets_.begin();
    proof_tree& proof = own(disjunct).tree;
    proof.forget(begun_[static_cast<std::size_t>(target)]);
    return proof.split_input(place, coordinate, plane);
  }

  /// `first` and `second` are the children of `parent` with z >= 0 and with z <= 0.
  void split(std::size_t target, std::size_t parent, std::size_t first, std::size_t second, std::size_t parameter) {
    if (!wanted()) return;
    std::uint32_t const children = tree(target).split_kink(at(target, parent), split_[parameter]);
    leaf_.resize(std::max({leaf_.size(), first + 1, second + 1}));
    leaf_[first] = children;
    leaf_[second] = children + 1;
  }

  void leaf(std::size_t target, std::size_t node, std::size_t constraint, std::span<float const> alpha,
            std::span<float const> beta) {
    if (!wanted()) return;
    std::vector<float> multipliers(beta.begin(), beta.end());
    for (float& b : multipliers) b = b > 0 && std::isfinite(b) ? b : 0;
    tree(target).refute(at(target, node), constraint, renumbered(alpha), multipliers);
  }

 private:
  /// The kink of every parameter.
  template <class M>
  std::vector<kink> const& kinks(M const& machine, network_state<Net> const& state, free_state<Net> const& free) {
    split_.clear();
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      free_columns const& f = free.stage[K];
      std::vector<index_t> column(f.count), live(f.count > 0 ? state.stage[K].live_count : 0);
      machine.read(column.data(), f.column, column.size());
      machine.read(live.data(), state.stage[K].live, live.size());
      for (index_t const c : column) split_.push_back({kink_of<K>(), static_cast<std::uint32_t>(live[c])});
    });
    return split_;
  }

  /// Slopes in the order of the hints.
  [[nodiscard]] std::vector<float> renumbered(std::span<float const> alpha) const {
    if (known_.empty()) return {alpha.begin(), alpha.end()};
    std::vector<float> all(proof_->hints.back().parameters.size(), 0.0f);
    for (std::size_t p = 0; p < alpha.size(); ++p) {
      if (known_[p] < all.size()) all[known_[p]] = alpha[p];
    }
    return all;
  }

  [[nodiscard]] std::uint32_t at(std::size_t target, std::size_t node) const {
    return node == split_tree::root ? places_[target] : leaf_[node];
  }

  /// Node of the first kink in the tail of stage K.
  template <std::size_t K>
  static constexpr std::uint32_t kink_of() {
    std::size_t found = 0;
    stage<Net, K>::for_each_tail([&]<std::size_t I> {
      if (found == 0 && Kinked<typename graph<Net>::template op<I>::element>) found = I;
    });
    return static_cast<std::uint32_t>(found);
  }

  disjunct_proof& own(std::size_t disjunct) {
    disjunct_proof& one = proof_->disjuncts[disjunct];
    one.hints = static_cast<std::uint32_t>(proof_->hints.size() - 1);
    return one;
  }
  proof_tree& tree(std::size_t target) { return proof_->disjuncts[targets_[target]].tree; }

  certificate* proof_;
  proof_hints hints_;
  std::vector<kink> split_;            // [parameter]
  std::vector<std::size_t> known_;     // [parameter] its number in the hints; empty: the same
  std::vector<std::size_t> targets_;   // [target] disjunct
  std::vector<std::uint32_t> places_;  // [target] where its box begins
  std::vector<std::size_t> begun_;     // [target] nodes of its proof when it did
  std::vector<std::uint32_t> leaf_;    // [node of the split tree] node of the target's proof
};

}  // namespace hull
