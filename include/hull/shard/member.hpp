// SPDX-License-Identifier: Apache-2.0
// One rank's part in a computation: the parameters it holds, the rows that are its own, and what it exchanges.
// Members are handles, cheap to copy; machines keep one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <hull/core/deadline.hpp>
#include <hull/net/parameters.hpp>
#include <hull/propagate/share.hpp>
#include <hull/shard/communicator.hpp>

namespace hull {

/// A rank that is alone and has all parameters.
template <Network Net>
class lone_member final {
 public:
  using weights_type = parameters<Net>;

  lone_member(weights_type const& weights) : weights_(&weights) {}  // implicit: a machine may be made from parameters

  [[nodiscard]] weights_type const& weights() const { return *weights_; }
  [[nodiscard]] lone_member undivided() const { return *this; }
  [[nodiscard]] lone_member separate() const { return *this; }
  [[nodiscard]] static bool concurrent() { return true; }
  [[nodiscard]] static bool several() { return false; }
  [[nodiscard]] static std::size_t rank() { return 0; }
  [[nodiscard]] static std::size_t ranks() { return 1; }
  [[nodiscard]] static std::size_t parts() { return 1; }
  [[nodiscard]] static row_range share(std::size_t rows) { return {0, rows}; }
  [[nodiscard]] static std::size_t most(std::size_t rows) { return rows; }
  [[nodiscard]] static std::size_t least(std::size_t number) { return number; }
  [[nodiscard]] static bool any(bool mine, deadline const& end) {
    end.check();
    return mine;
  }
  static void poll(deadline const& end) { end.check(); }
  static void gather(double* /*numbers*/, std::size_t /*count*/) {}
  template <class T>
  static void add_ranks(T* /*numbers*/, std::size_t /*count*/) {}
  static void all_gather(float const* /*part*/, float* /*all*/, std::size_t /*count*/) {}

  // Things that all ranks would do alike, and may divide.
  [[nodiscard]] static row_range own_part(std::size_t count) { return {0, count}; }
  [[nodiscard]] static std::size_t least_of_parts(std::size_t number) { return number; }
  static void add_own_parts(double* /*numbers*/, std::size_t /*count*/) {}

 private:
  weights_type const* weights_;
};

/// One of several ranks that divide the rows between them. `Weights`: parameters, whole or sharded.
template <class Weights, Communicator C>
class row_member final {
 public:
  using weights_type = Weights;
  using communicator = C;

  row_member(Weights const& weights, C& ranks) : weights_(&weights), ranks_(&ranks) {}

  /// A member for steps in which every rank computes all rows, at the same time as the others.
  [[nodiscard]] row_member undivided() const {
    row_member all = *this;
    all.divide_ = false;
    return all;
  }
  /// A member for rows of this rank's own, of which the others know nothing. Where passes through the network collect
  /// parameters, every rank still has to make as many as the others; otherwise nothing is a collective.
  [[nodiscard]] row_member separate() const {
    row_member one = undivided();
    one.in_step_ = collects;
    return one;
  }
  /// Whether several threads may drive machines of this member at the same time.
  [[nodiscard]] bool concurrent() const { return !in_step_; }

  [[nodiscard]] weights_type const& weights() const { return *weights_; }
  /// For collectives on memory that this code does not know: of a device.
  [[nodiscard]] C& others() const { return *ranks_; }
  [[nodiscard]] bool several() const { return ranks_->size() > 1; }
  [[nodiscard]] std::size_t rank() const { return divide_ ? ranks_->rank() : 0; }
  [[nodiscard]] std::size_t ranks() const { return divide_ ? ranks_->size() : 1; }
  [[nodiscard]] std::size_t parts() const { return ranks(); }
  [[nodiscard]] row_range share(std::size_t rows) const { return share_of(rows, rank(), ranks()); }
  [[nodiscard]] std::size_t most(std::size_t rows) const { return largest_share(rows, ranks()); }
  /// The least number that any rank has.
  [[nodiscard]] std::size_t least(std::size_t number) const {
    std::vector<std::size_t> all(ranks_->size());
    ranks_->all_gather(reinterpret_cast<std::byte const*>(&number), reinterpret_cast<std::byte*>(all.data()),
                       sizeof number);
    return *std::min_element(all.begin(), all.end());
  }

  /// Whether any rank says yes. Throws deadline_passed on all ranks if one of them has reached the deadline.
  [[nodiscard]] bool any(bool mine, deadline const& end) const {
    if (!in_step_) {
      poll(end);
      return mine;
    }
    unsigned const all = ranks_->any((mine ? 1U : 0U) | (end.passed_here() ? 2U : 0U));
    if ((all & 2U) != 0) throw deadline_passed();
    return (all & 1U) != 0;
  }
  /// A rank that is in step with others and left alone would leave them waiting.
  void poll(deadline const& end) const {
    if (!in_step_ && end.passed_here()) throw deadline_passed();
  }

  void gather(double* numbers, std::size_t count) const {
    if (ranks() == 1) return;
    std::size_t const each = most(count);
    std::vector<double> parts(each * ranks());
    row_range const mine = share(count);
    double* const own = parts.data() + rank() * each;
    std::copy(numbers + mine.first, numbers + mine.last, own);
    ranks_->all_gather(reinterpret_cast<std::byte const*>(own), reinterpret_cast<std::byte*>(parts.data()),
                       each * sizeof(double));
    for (std::size_t r = 0; r < ranks(); ++r) {
      row_range const part = share_of(count, r, ranks());
      std::copy_n(parts.data() + r * each, part.size(), numbers + part.first);
    }
  }
  /// Sums over the ranks.
  template <class T>
  void add_ranks(T* numbers, std::size_t count) const {
    if (ranks() > 1) ranks_->sum(numbers, count);
  }
  void all_gather(float const* part, float* all, std::size_t count) const {
    ranks_->all_gather(reinterpret_cast<std::byte const*>(part), reinterpret_cast<std::byte*>(all),
                       count * sizeof(float));
  }

  // Things that all ranks would do alike, and may divide: only where they are in step. Collectives then.
  [[nodiscard]] row_range own_part(std::size_t count) const {
    return in_step_ ? share_of(count, ranks_->rank(), ranks_->size()) : row_range{0, count};
  }
  [[nodiscard]] std::size_t least_of_parts(std::size_t number) const { return in_step_ ? least(number) : number; }
  void add_own_parts(double* numbers, std::size_t count) const {
    if (in_step_ && several()) ranks_->sum(numbers, count);
  }

 private:
  static constexpr bool collects = requires { typename Weights::sharded; };

  Weights const* weights_;
  C* ranks_;
  bool divide_ = true;
  bool in_step_ = true;
};

/// One of several ranks that divide the neurons of a network between them: all work on the same rows. `Net` is the part
/// of one rank (net/divide.hpp).
template <Network Net, Communicator C>
class divided_member final {
 public:
  using weights_type = parameters<Net>;
  using communicator = C;

  divided_member(weights_type const& weights, C& ranks) : weights_(&weights), ranks_(&ranks) {}

  [[nodiscard]] weights_type const& weights() const { return *weights_; }
  [[nodiscard]] C& others() const { return *ranks_; }
  [[nodiscard]] divided_member undivided() const { return *this; }
  [[nodiscard]] divided_member separate() const { return *this; }  // nobody has rows of its own
  [[nodiscard]] static bool concurrent() { return false; }
  [[nodiscard]] static bool several() { return true; }
  [[nodiscard]] static std::size_t rank() { return 0; }   // of those that divide rows
  [[nodiscard]] static std::size_t ranks() { return 1; }  // that divide rows
  [[nodiscard]] std::size_t place() const { return ranks_->rank(); }
  [[nodiscard]] std::size_t parts() const { return ranks_->size(); }
  [[nodiscard]] static row_range share(std::size_t rows) { return {0, rows}; }
  [[nodiscard]] static std::size_t most(std::size_t rows) { return rows; }
  [[nodiscard]] std::size_t least(std::size_t number) const {
    std::vector<double> all(parts(), 0.0);
    all[place()] = static_cast<double>(number);
    ranks_->sum(all.data(), all.size());
    return static_cast<std::size_t>(*std::min_element(all.begin(), all.end()));
  }
  [[nodiscard]] bool any(bool mine, deadline const& end) const {
    unsigned const all = ranks_->any((mine ? 1U : 0U) | (end.passed_here() ? 2U : 0U));
    if ((all & 2U) != 0) throw deadline_passed();
    return (all & 1U) != 0;
  }
  static void poll(deadline const& /*end*/) {}
  static void gather(double* /*numbers*/, std::size_t /*count*/) {}
  template <class T>
  static void add_ranks(T* /*numbers*/, std::size_t /*count*/) {}
  static void all_gather(float const* /*part*/, float* /*all*/, std::size_t /*count*/) {}
  // all ranks work on everything together
  [[nodiscard]] static row_range own_part(std::size_t count) { return {0, count}; }
  [[nodiscard]] static std::size_t least_of_parts(std::size_t number) { return number; }
  static void add_own_parts(double* /*numbers*/, std::size_t /*count*/) {}

  template <class T>
  void sum(T* values, std::size_t count) const {
    ranks_->sum(values, count);
  }

 private:
  weights_type const* weights_;
  C* ranks_;
};

}  // namespace hull
