// SPDX-License-Identifier: Apache-2.0
// A communicator whose kind is chosen at run time: what a compiled network is given by the program that loads it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include <hull/shard/communicator.hpp>

namespace hull {

class AnyCommunicator final {
 public:
  /// Borrows `ranks` and its background.
  template <Communicator C>
  explicit AnyCommunicator(C& ranks) : self_(std::make_unique<bound<C>>(ranks)) {
    if (&ranks.background() != &ranks) behind_ = std::make_unique<AnyCommunicator>(ranks.background(), last_tag{});
  }

  [[nodiscard]] std::size_t rank() const { return self_->rank(); }
  [[nodiscard]] std::size_t size() const { return self_->size(); }
  void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) { self_->all_gather(part, all, bytes); }
  void sum(float* values, std::size_t count) { self_->sum(values, count); }
  void sum(double* values, std::size_t count) { self_->sum(values, count); }
  [[nodiscard]] unsigned any(unsigned bits) { return self_->any(bits); }
  void fail(std::string const& why) { self_->fail(why); }
  [[nodiscard]] std::string lost() const { return self_->lost(); }
  [[nodiscard]] AnyCommunicator& background() { return behind_ ? *behind_ : *this; }

 private:
  struct last_tag {};

  struct link {
    link() = default;
    link(link const&) = delete;
    link& operator=(link const&) = delete;
    virtual ~link() = default;
    [[nodiscard]] virtual std::size_t rank() const = 0;
    [[nodiscard]] virtual std::size_t size() const = 0;
    virtual void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) = 0;
    virtual void sum(float* values, std::size_t count) = 0;
    virtual void sum(double* values, std::size_t count) = 0;
    virtual unsigned any(unsigned bits) = 0;
    virtual void fail(std::string const& why) = 0;
    [[nodiscard]] virtual std::string lost() const = 0;
  };

  template <Communicator C>
  struct bound final : link {
    explicit bound(C& ranks) : to(&ranks) {}
    [[nodiscard]] std::size_t rank() const override { return to->rank(); }
    [[nodiscard]] std::size_t size() const override { return to->size(); }
    void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) override {
      to->all_gather(part, all, bytes);
    }
    void sum(float* values, std::size_t count) override { to->sum(values, count); }
    void sum(double* values, std::size_t count) override { to->sum(values, count); }
    unsigned any(unsigned bits) override { return to->any(bits); }
    void fail(std::string const& why) override { to->fail(why); }
    [[nodiscard]] std::string lost() const override { return lost_rank(*to); }
    C* to;
  };

 public:
  /// Without a background of its own.
  template <Communicator C>
  AnyCommunicator(C& ranks, last_tag) : self_(std::make_unique<bound<C>>(ranks)) {}

 private:
  std::unique_ptr<link> self_;
  std::unique_ptr<AnyCommunicator> behind_;
};

static_assert(Communicator<AnyCommunicator>);

}  // namespace hull
