// SPDX-License-Identifier: Apache-2.0
// The domains that are still open, and which of them come next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <hull/search/domain.hpp>

namespace hull {

/// Best first: the domains furthest from a proof, so that what stays open shrinks from its worst end and the attack
/// sees the most promising corners. A quarter of what is taken are the deepest ones: where a counterexample is hard to
/// find, a leaf shows it. When `budget` bytes are nearly used, domains forget where their rows would start,
/// and the deepest come first, which keeps the number of open domains near (batch x depth). No domain is ever dropped.
class frontier final {
 public:
  frontier(std::size_t tracks, std::size_t width, std::size_t budget) : store_(tracks, width), budget_(budget) {}

  [[nodiscard]] domain_store& store() { return store_; }
  [[nodiscard]] split_tree& tree() { return tree_; }
  [[nodiscard]] std::size_t size() const { return open_.size(); }
  [[nodiscard]] std::size_t bytes() const { return store_.bytes() + tree_.bytes(); }
  /// Most bytes of this rank.
  [[nodiscard]] std::size_t peak_bytes() const { return peak_; }
  [[nodiscard]] bool short_of_memory() const { return bytes() > budget_ / 4 * 3; }

  /// Opens a domain with the parameters of its rows, which are kept on the rank that says `here`.
  void push(index_t slot, std::span<float const> alpha, std::span<float const> beta, bool here = true) {
    std::size_t const more = alpha.size() * sizeof(std::uint16_t) + beta.size() * sizeof(float);
    if (bytes() + more <= budget_) store_.remember(slot, alpha, beta, here);
    open_.push_back(slot);
    peak_ = std::max(peak_, store_.here_bytes() + tree_.bytes());
  }

  /// Takes out up to `count` domains. They keep their slots until store().remove().
  [[nodiscard]] std::vector<index_t> take(std::size_t count) {
    std::vector<index_t> taken;
    std::size_t const deepest = short_of_memory() ? count : count / 4;
    take(deepest, true, taken);
    take(count - deepest, false, taken);
    return taken;
  }

  /// Closes the domains of a disjunct that cannot be settled any more.
  void abandon(index_t target) {
    std::erase_if(open_, [&](index_t slot) {
      bool const gone = store_.target[slot] == target;
      if (gone) store_.remove(slot);
      return gone;
    });
  }

  /// In no particular order.
  [[nodiscard]] std::vector<index_t> const& open() const { return open_; }

 private:
  void take(std::size_t count, bool deepest, std::vector<index_t>& taken) {
    auto const before = [&](index_t a, index_t b) {
      if (deepest && store_.depth[a] != store_.depth[b]) return store_.depth[a] > store_.depth[b];
      if (store_.worst[a] != store_.worst[b]) return store_.worst[a] < store_.worst[b];
      return store_.node[a] != store_.node[b] ? store_.node[a] < store_.node[b] : store_.target[a] < store_.target[b];
    };
    auto const middle = open_.begin() + static_cast<std::ptrdiff_t>(std::min(count, open_.size()));
    std::partial_sort(open_.begin(), middle, open_.end(), before);
    taken.insert(taken.end(), open_.begin(), middle);
    open_.erase(open_.begin(), middle);
  }

  domain_store store_;
  split_tree tree_;
  std::vector<index_t> open_;
  std::size_t budget_;
  std::size_t peak_ = 0;
};

}  // namespace hull
