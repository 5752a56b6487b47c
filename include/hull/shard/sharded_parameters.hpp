// SPDX-License-Identifier: Apache-2.0
// 1/P of every weight tensor on each of P ranks. A tensor is cut into blocks (net/blocks.hpp), each block into P equal
// parts, padded to whole cache lines; a block is collected from all ranks when it is needed and forgotten afterwards.
// Vectors (biases, parameters of pointwise operators) are whole on every rank: together they are a fraction of a row.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <hull/net/blocks.hpp>
#include <hull/net/parameters.hpp>
#include <hull/shard/block_gatherer.hpp>
#include <hull/shard/communicator.hpp>

namespace hull {

/// A block of a weight tensor: columns [first, last) of a matrix of `rows` rows.
struct weight_block final {
  std::size_t slot = 0;  // of the tensor
  std::size_t rows = 0;
  std::size_t columns = 0;  // of the tensor
  std::size_t first = 0, last = 0;

  [[nodiscard]] constexpr std::size_t floats() const { return rows * (last - first); }
  /// Of each of P ranks, padding included.
  [[nodiscard]] constexpr std::size_t part(std::size_t ranks) const {
    return ((floats() + ranks - 1) / ranks + 15) / 16 * 16;
  }
};

namespace detail {

/// Whether slot `Slot` of node I is a tensor that is cut.
template <Network Net, std::size_t I>
consteval bool has_weight_tensor() {
  using op = typename graph<Net>::template op<I>;
  if constexpr (Head<op>) return HeadOf<op, linear_head> || HeadOf<op, conv_head>;
  return false;
}

/// Calls f(block) for all blocks of all weight tensors. A bank of filters is one block.
template <Network Net, std::size_t Bytes, class F>
constexpr void for_weight_blocks(F&& f) {
  graph<Net>::for_each([&]<std::size_t I> {
    if constexpr (has_weight_tensor<Net, I>()) {
      constexpr std::size_t slot = first_slot<Net>[I], count = hull::parameter_slots<Net>[slot].count;
      if constexpr (HeadOf<typename graph<Net>::template op<I>, linear_head>) {
        constexpr std::size_t rows = graph<Net>::template shape<I>.size();
        for_blocks(
            rows, count / rows,
            [&](std::size_t first, std::size_t last) {
              f(weight_block{slot, rows, count / rows, first, last});
            },
            Bytes);
      } else {
        f(weight_block{slot, 1, count, 0, count});
      }
    }
  });
}

template <Network Net, std::size_t Bytes>
consteval std::size_t weight_block_count() {
  std::size_t count = 0;
  for_weight_blocks<Net, Bytes>([&](weight_block const&) { ++count; });
  return count;
}

}  // namespace detail

/// All blocks of a network's weight tensors, in the order of tensors and columns.
template <Network Net, std::size_t Bytes = block_bytes>
inline constexpr auto weight_blocks = [] {
  std::array<weight_block, detail::weight_block_count<Net, Bytes>()> all{};
  std::size_t at = 0;
  detail::for_weight_blocks<Net, Bytes>([&](weight_block const& one) { all[at++] = one; });
  return all;
}();

/// What one of P ranks holds of a network's parameters, in bytes.
struct parameter_bytes final {
  std::size_t shards = 0;   // its parts of weight tensors
  std::size_t vectors = 0;  // what every rank has
  std::size_t buffers = 0;  // for two blocks

  [[nodiscard]] constexpr std::size_t at_rest() const { return shards + vectors; }
};

template <Network Net, std::size_t Bytes = block_bytes>
[[nodiscard]] constexpr parameter_bytes sharded_bytes(std::size_t ranks) {
  parameter_bytes sum;
  std::array<bool, parameter_slots<Net>.size() + 1> cut{};
  for (auto const& block : weight_blocks<Net, Bytes>) {
    sum.shards += block.part(ranks) * sizeof(float);
    sum.buffers = std::max(sum.buffers, 2 * ranks * block.part(ranks) * sizeof(float));
    cut[block.slot] = true;
  }
  for (std::size_t at = 0; at < parameter_slots<Net>.size(); ++at) {
    if (!cut[at]) sum.vectors += (parameter_slots<Net>[at].count + 15) / 16 * 16 * sizeof(float);
  }
  return sum;
}

/// The same where bounds are computed: some machines M have their own parts, in blocks of another size.
template <Network Net, class M>
[[nodiscard]] constexpr parameter_bytes held_bytes(std::size_t ranks) {
  if constexpr (requires { M::held(ranks); }) return M::held(ranks);
  return sharded_bytes<Net>(ranks);
}

template <Network Net, Communicator C>
class sharded_parameters final {
 public:
  static constexpr auto const& slots = parameter_slots<Net>;
  static constexpr auto const& blocks = weight_blocks<Net>;
  using sharded = void;  // a rank has a part only

  /// Copies this rank's parts of what `source(key)` returns; only one tensor at a time is asked for. Throws as
  /// parameters<Net> does. All ranks must do so together.
  template <class Source>
  sharded_parameters(Source const& source, C& ranks, bool overlap = overlap_wanted()) : ranks_(&ranks) {
    auto const bytes = sharded_bytes<Net>(ranks.size());
    for (std::size_t at = 0, b = 0, vector = 0, shard = 0; at < slots.size(); ++at) {
      auto const& slot = slots[at];
      std::string const key = std::string(slot.layer) + "." + std::string(slot.name);
      parameter_values const found = source(key);
      check_values(key, slot.count, found);
      rounded_[at] = found.rounded;
      if (at == 0) {  // not before: a source may need the room
        vectors_.resize(bytes.vectors / sizeof(float));
        shards_.resize(bytes.shards / sizeof(float));
      }
      if (b < blocks.size() && blocks[b].slot == at) {
        for (; b < blocks.size() && blocks[b].slot == at; ++b) {
          shard_at_[b] = shard;
          copy_part(blocks[b], found.values, shards_.data() + shard);
          shard += blocks[b].part(ranks.size());
        }
      } else {
        vector_at_[at] = vector;
        std::copy(found.values.begin(), found.values.end(), vectors_.begin() + static_cast<std::ptrdiff_t>(vector));
        vector += (slot.count + 15) / 16 * 16;
      }
    }
    std::size_t const floats = bytes.buffers / sizeof(float);
    buffers_.resize(floats);
    gatherer_ = std::make_unique<block_gatherer<C>>(ranks, buffers_.data(), floats / 2, overlap);
  }

  /// Tensor number `Slot` of node I: a vector.
  template <std::size_t I, std::size_t Slot>
  [[nodiscard]] float const* tensor() const {
    static_assert(Slot > 0 || !detail::has_weight_tensor<Net, I>(),
                  "hull: a weight tensor is only seen block by block");
    return vectors_.data() + vector_at_[detail::first_slot<Net>[I] + Slot];
  }

  /// Whether a tensor of node I was rounded to float when it was read.
  template <std::size_t I>
  [[nodiscard]] bool rounded() const {
    for (std::size_t at = detail::first_slot<Net>[I]; at < detail::first_slot<Net>[I + 1]; ++at) {
      if (rounded_[at]) return true;
    }
    return false;
  }

  template <std::size_t I>
  [[nodiscard]] auto element(std::size_t index) const {
    return bind_element<Net, I>(*this, index);
  }

  /// Calls f(column_block) for the blocks of the matrix of Linear node I, in order. A collective.
  template <std::size_t I, class F>
  void each_block(F&& f) const {
    for (std::size_t b = first_block<I>(); b < blocks.size() && blocks[b].slot == detail::first_slot<Net>[I]; ++b) {
      bool const more = b + 1 < blocks.size() && blocks[b + 1].slot == blocks[b].slot;
      float const* const weight = take(b, more ? b + 1 : block_gatherer<C>::none);
      try {
        f(column_block{weight, blocks[b].last - blocks[b].first, blocks[b].first, blocks[b].last});
      } catch (std::exception const& e) {  // the others wait for the next block
        ranks_->fail(e.what());
        throw;
      }
    }
  }
  template <std::size_t I, class F>
  void any_blocks(F&& f) const {
    each_block<I>(f);
  }
  template <std::size_t I, class F>
  void filters(F&& f) const {
    f(take(first_block<I>(), block_gatherer<C>::none));
  }

  [[nodiscard]] gather_cost const& cost() const { return gatherer_->cost(); }

  /// Blocks are collected ahead of use unless the environment says HULL_OVERLAP=0.
  [[nodiscard]] static bool overlap_wanted() {
    char const* const value = std::getenv("HULL_OVERLAP");
    return value == nullptr || std::string(value) != "0";
  }

 private:
  template <std::size_t I>
  static constexpr std::size_t first_block() {
    std::size_t b = 0;
    while (blocks[b].slot != detail::first_slot<Net>[I]) ++b;
    return b;
  }

  [[nodiscard]] float const* take(std::size_t now, std::size_t next) const {
    return gatherer_->take(
        now, next, [&](std::size_t b) { return shards_.data() + shard_at_[b]; },
        [&](std::size_t b) { return blocks[b].part(ranks_->size()); });
  }

  void copy_part(weight_block const& block, std::span<float const> tensor, float* to) const {
    std::size_t const width = block.last - block.first, part = block.part(ranks_->size());
    std::size_t const begin = std::min(part * ranks_->rank(), block.floats());
    std::size_t const end = std::min(begin + part, block.floats());
    for (std::size_t i = begin; i < end; ++i) {
      *to++ = tensor[i / width * block.columns + block.first + i % width];
    }
  }

  C* ranks_;
  std::vector<float> vectors_, shards_, buffers_;
  std::array<std::size_t, slots.size() + 1> vector_at_{};  // [slot]
  std::array<std::size_t, blocks.size() + 1> shard_at_{};  // [block]
  std::array<bool, slots.size() + 1> rounded_{};
  std::unique_ptr<block_gatherer<C>> gatherer_;
};

}  // namespace hull
