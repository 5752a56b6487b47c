// SPDX-License-Identifier: Apache-2.0
// The work list of input splitting: boxes of disjuncts, last in, first out, and bounds of hidden neurons that they
// share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <hull/propagate/specification.hpp>

namespace hull {

/// A box of a disjunct. Its ranges, for the coordinates that are not single points, stand in the list it came from.
struct input_domain final {
  std::uint32_t disjunct = 0;
  std::uint32_t known = ~std::uint32_t{0};  // bounds of hidden neurons over a box around this one, in known_bounds
  double bound = 0;        // lower bound of the constraint nearest to proof, over a box around this one
  std::uint32_t leaf = 0;  // its node in the disjunct's proof, where one is wanted
};

/// Domains and their ranges. Depth first keeps the list short: about one round of boxes for each level of the tree.
class input_domains final {
 public:
  /// `ranges` is the largest number of ranges of a domain.
  explicit input_domains(std::size_t ranges) : stride_(ranges) {}

  [[nodiscard]] std::size_t size() const { return domains_.size(); }
  [[nodiscard]] std::size_t bytes() const { return size() * (sizeof(input_domain) + stride_ * sizeof(input_range)); }

  [[nodiscard]] input_domain const& operator[](std::size_t i) const { return domains_[i]; }
  [[nodiscard]] input_domain& operator[](std::size_t i) { return domains_[i]; }
  [[nodiscard]] std::span<input_range> ranges(std::size_t i) { return {ranges_.data() + i * stride_, stride_}; }
  [[nodiscard]] std::span<input_range const> ranges(std::size_t i) const {
    return {ranges_.data() + i * stride_, stride_};
  }

  void clear() { resize(0); }

  void push(input_domain const& one, std::span<input_range const> ranges) {
    std::size_t const at = size();
    resize(at + 1);
    domains_[at] = one;
    std::copy(ranges.begin(), ranges.end(), ranges_.begin() + static_cast<std::ptrdiff_t>(at * stride_));
  }

  /// Moves the last `count` domains to the end of `other`, the last one first.
  void pop_to(input_domains& other, std::size_t count) {
    for (; count > 0; --count) {
      other.push(domains_.back(), ranges(size() - 1));
      resize(size() - 1);
    }
  }

 private:
  void resize(std::size_t count) {
    domains_.resize(count);
    ranges_.resize(count * stride_);
  }

  std::size_t stride_;
  std::vector<input_domain> domains_;
  std::vector<input_range> ranges_;  // [domain, stride]
};

/// Lists of floats that several domains share, counted. When the budget is used up there are none to be had, which
/// costs time, never a domain.
class known_bounds final {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  known_bounds(std::size_t floats, std::size_t budget)
      : floats_(floats), most_(floats == 0 ? 0 : std::min<std::size_t>(budget / (floats * sizeof(float)), none)) {}

  /// A list with one owner, contents undefined; `none` if the budget is used up.
  [[nodiscard]] std::uint32_t take() {
    if (!free_.empty()) {
      std::uint32_t const at = free_.back();
      free_.pop_back();
      owners_[at] = 1;
      return at;
    }
    if (owners_.size() >= most_) return none;
    if (owners_.size() % block == 0) blocks_.emplace_back(block * floats_);
    owners_.push_back(1);
    return static_cast<std::uint32_t>(owners_.size() - 1);
  }
  void share(std::uint32_t at) {
    if (at != none) ++owners_[at];
  }
  void drop(std::uint32_t at) {
    if (at != none && --owners_[at] == 0) free_.push_back(at);
  }
  [[nodiscard]] std::size_t bytes() const { return blocks_.size() * block * floats_ * sizeof(float); }
  [[nodiscard]] float* at(std::uint32_t i) {
    return i == none ? nullptr : blocks_[i / block].data() + i % block * floats_;
  }

 private:
  static constexpr std::size_t block = 64;  // lists allocated at a time; they never move

  std::size_t floats_;
  std::size_t most_;
  std::vector<std::vector<float>> blocks_;
  std::vector<std::uint32_t> owners_;
  std::vector<std::uint32_t> free_;
};

}  // namespace hull
