// SPDX-License-Identifier: Apache-2.0
// What the steps of a CUDA machine ask of its parameters, stage by stage, whoever holds them; and how the host gets to
// know how many columns of a stage are live.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include <hull/backend/cuda/conv.cuh>
#include <hull/backend/cuda/forward.cuh>
#include <hull/backend/cuda/gathered.cuh>
#include <hull/backend/cuda/host.cuh>
#include <hull/backend/cuda/ranks.cuh>
#include <hull/backend/cuda/sharded_weights.cuh>
#include <hull/backend/cuda/step_memory.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/net/blocks.hpp>
#include <hull/net/divide.hpp>
#include <hull/net/parameters.hpp>

namespace hull::cuda {

template <Network Net, class Member, class P>
class stage_weights : public host<Member>, public step_memory<Net, P> {
 protected:
  using sizes = step_memory<Net, P>;
  using host<Member>::device_;
  using host<Member>::member_;

 public:
  explicit stage_weights(Member member)
      : host<Member>(member, counters),
        weights_(member, device_, scans_weights()),
        others_(ranks_of_member<Member>::make(member)) {
    if constexpr (scans_weights() && (ranks_of<Net>) > 1) weights_.agree_on_largest(member);
  }

  /// What a rank holds of the parameters on its device, where it does not hold all.
  [[nodiscard]] static constexpr parameter_bytes held(std::size_t ranks) requires HoldsParts<Member> {
    return sharded_weights<Net, Member>::held(ranks);
  }
  /// What collectives on device memory have cost. Waits for the device.
  [[nodiscard]] device_cost communication() const requires requires { typename Member::communicator; }
  {
    device_cost all = others_.cost();
    if constexpr (HoldsParts<Member>) all += weights_.cost();
    return all;
  }

 protected:
  static constexpr unsigned block = 128;

  /// `input`: the state of the input stage, which others lie behind. Its number of live columns is under way.
  void begin_settling(stage_state& input) const {
    first_stage_ = &input;
    pending_.assign(1, &input);
  }
  void settle_later(stage_state& s) const { pending_.push_back(&s); }

  /// Where kernels leave how many rows or neurons they have listed; and that number, after waiting for them.
  [[nodiscard]] index_t* list_count() const { return device_.counter(stage_count<Net>); }
  [[nodiscard]] index_t listed() const {
    index_t found = 0;
    device_.read(&found, list_count(), 1);
    return found;
  }

  /// Waits for the numbers of live columns of the stages that were relaxed since the last call, and of candidates.
  std::size_t settle() const {
    counts_.resize(counters);
    device_.read(counts_.data(), device_.counter(0), counts_.size());
    for (stage_state* const s : pending_) s->live_count = counts_[static_cast<std::size_t>(s - first_stage_)];
    pending_.clear();
    return counts_[stage_count<Net>];
  }

  template <class S>
  [[nodiscard]] bool rounded() const {
    return rounded_head<S>(member_.weights());
  }
  template <class S>
  [[nodiscard]] float const* bias() const {
    return weights_.view().template tensor<S::info.head, 1>();
  }
  template <class S>
  [[nodiscard]] head_bias constants() const {
    if constexpr (HeadOf<typename S::head, linear_head>) return {bias<S>(), 1};
    if constexpr (HeadOf<typename S::head, conv_head>) return {bias<S>(), S::shape[1] * S::shape[2]};
    return {};
  }
  template <class S>
  [[nodiscard]] linear_weights dense() const {
    return {bias<S>(), S::size, S::template operand<0>.size(), rounded<S>()};
  }
  /// 0 where no product of the stage asks for it.
  template <class S>
  [[nodiscard]] float largest_weight() const {
    if constexpr (sizes::template precision_of<S>::scaled) return weights_.template largest<S::info.head>();
    return 0;
  }

  /// Columns of a block of the matrix of stage S, and how many blocks there are.
  template <class S>
  [[nodiscard]] static constexpr std::size_t width_of() {
    return block_width(S::size, S::template operand<0>.size(), weight_block_bytes);
  }
  template <class S>
  [[nodiscard]] static constexpr std::size_t blocks_of() {
    if constexpr (HeadOf<typename S::head, linear_head>) {
      return block_count(S::size, S::template operand<0>.size(), weight_block_bytes);
    }
    return 0;
  }
  /// Live columns of the operand of stage S that are in a block of its matrix, after settle().
  template <class S>
  [[nodiscard]] row_range live_in(column_block const& w, stage_state const& x) const {
    auto const before = [&](std::size_t column) -> std::size_t {
      if (column == 0) return 0;
      return column == x.size ? x.live_count : counts_[block_ends[S::number] + column / width_of<S>() - 1];
    };
    return {before(w.first), before(w.last)};
  }

  /// Live rows of a block of W and the live columns `mine` of it.
  template <class S, bool Transposed>
  [[nodiscard]] static gathered<Transposed> live_weights(column_block const& w, stage_state const& y,
                                                         stage_state const& x, row_range mine) {
    static_assert(S::size * S::template operand<0>.size() < (std::size_t{1} << 32));
    return {w.weight - w.first, static_cast<unsigned>(w.stride), y.live, x.live + mine.first};
  }
  /// Calls f(conv_weights). A collective where ranks hold parts.
  template <class S, class F>
  void with_filters(way going, F&& f) const {
    weights_.template filters<S::info.head>(going, [&](float const* weight) {
      f(conv_weights{weight, bias<S>(), S::head::filter, S::template operand<0>, S::shape, rounded<S>()});
    });
  }

  // On the device: live columns of each stage, candidates, and by stage where blocks of its matrix end among the live
  // columns.
  static constexpr auto block_ends = [] {
    std::array<std::size_t, stage_count<Net> + 1> first{};
    std::size_t at = stage_count<Net> + 1;
    for_each_stage<1, stage_count<Net>>([&]<std::size_t K> {
      first[K] = at;
      at += blocks_of<stage<Net, K>>();
    });
    first[stage_count<Net>] = at;
    return first;
  }();
  static constexpr std::size_t counters = block_ends[stage_count<Net>];

  typename weights_of<Net, Member>::type weights_;
  mutable typename ranks_of_member<Member>::type others_;

 private:
  static constexpr bool scans_weights() {
    bool found = false;
    for_each_stage<1, stage_count<Net>>(
        [&]<std::size_t K> { found = found || sizes::template precision_of<stage<Net, K>>::scaled; });
    return found;
  }

  // counts of live columns come with the next number that the host waits for
  mutable std::vector<stage_state*> pending_;
  mutable stage_state* first_stage_ = nullptr;
  mutable std::vector<index_t> counts_;
};

}  // namespace hull::cuda
