// SPDX-License-Identifier: Apache-2.0
// The domains that are still open, and which of them come next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
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
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return store_.bytes() + list_bytes(); }
  /// Most bytes of this rank.
  [[nodiscard]] std::size_t peak_bytes() const { return peak_; }
  [[nodiscard]] bool short_of_memory() const { return bytes() > budget_ / 4 * 3; }

  /// Opens a domain with the parameters of its rows, alphas packed, which are kept on the rank that says `here`.
  void push(index_t slot, std::vector<packed_alpha> alpha, std::vector<float> beta, bool here = true) {
    std::size_t const more = alpha.size() * sizeof(packed_alpha) + beta.size() * sizeof(float);
    if (bytes() + more <= budget_) store_.remember(slot, std::move(alpha), std::move(beta), here);
    opened_.resize(std::max<std::size_t>(opened_.size(), slot + std::size_t{1}), 0);
    opened_[slot] = ++pushes_;
    ++size_;
    worst_.push({store_.worst[slot], 0, store_.node[slot], store_.target[slot], slot, pushes_});
    deepest_.push({store_.worst[slot], store_.depth[slot], store_.node[slot], store_.target[slot], slot, pushes_});
    peak_ = std::max(peak_, store_.here_bytes() + list_bytes());
  }

  /// Takes out up to `count` domains. They keep their slots until store().remove().
  [[nodiscard]] std::vector<index_t> take(std::size_t count) {
    std::vector<index_t> taken;
    std::size_t const deepest = short_of_memory() ? count : count / 4;
    take(deepest, deepest_, taken);
    take(count - deepest, worst_, taken);
    for (heap* const all : {&worst_, &deepest_}) all->tidy(*this);
    return taken;
  }

  /// Closes the domains of a disjunct that cannot be settled any more.
  void abandon(index_t target) {
    for (index_t const slot : open()) {
      if (store_.target[slot] != target) continue;
      close(slot);
      store_.remove(slot);
    }
  }

  /// In no particular order.
  [[nodiscard]] std::vector<index_t> open() const {
    std::vector<index_t> slots;
    for (index_t slot = 0; slot < opened_.size(); ++slot) {
      if (opened_[slot] != 0) slots.push_back(slot);
    }
    return slots;
  }

 private:
  struct entry final {
    double worst;
    index_t depth;  // 0 where it does not count
    index_t node, target, slot;
    std::uint64_t push;  // which one it was: a slot may have been closed since, and opened again
  };
  /// Whether b comes before a; the first of a heap comes before all others.
  static bool after(entry const& a, entry const& b) {
    if (a.depth != b.depth) return a.depth < b.depth;
    if (a.worst != b.worst) return a.worst > b.worst;
    return a.node != b.node ? a.node > b.node : a.target > b.target;
  }
  /// Entries of open domains, and of some that were closed since.
  struct heap final {
    std::vector<entry> entries;

    void push(entry const& one) {
      entries.push_back(one);
      std::push_heap(entries.begin(), entries.end(), after);
    }
    [[nodiscard]] entry pop() {
      std::pop_heap(entries.begin(), entries.end(), after);
      entry const one = entries.back();
      entries.pop_back();
      return one;
    }
    void tidy(frontier const& all) {
      if (entries.size() < 2 * all.size_ + 1024) return;
      std::erase_if(entries, [&](entry const& one) { return all.opened_[one.slot] != one.push; });
      std::make_heap(entries.begin(), entries.end(), after);
    }
  };

  void take(std::size_t count, heap& from, std::vector<index_t>& taken) {
    for (std::size_t found = 0; found < count && size_ > 0;) {
      entry const one = from.pop();
      if (opened_[one.slot] != one.push) continue;
      close(one.slot);
      taken.push_back(one.slot);
      ++found;
    }
  }

  /// Of what all ranks have.
  [[nodiscard]] std::size_t list_bytes() const {
    std::size_t const entries = worst_.entries.size() + deepest_.entries.size();
    return tree_.bytes() + entries * sizeof(entry) + opened_.size() * sizeof(std::uint64_t);
  }

  void close(index_t slot) {
    opened_[slot] = 0;
    --size_;
  }

  domain_store store_;
  split_tree tree_;
  heap worst_, deepest_;
  std::vector<std::uint64_t> opened_;  // [slot] by which push; 0: it is not open
  std::size_t size_ = 0;
  std::uint64_t pushes_ = 0;
  std::size_t budget_;
  std::size_t peak_ = 0;
};

}  // namespace hull
