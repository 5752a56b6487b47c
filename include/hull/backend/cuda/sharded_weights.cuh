// SPDX-License-Identifier: Apache-2.0
// 1/P of every weight tensor in the device memory of each of P ranks (FullySharded). Blocks are collected from all
// ranks into two buffers, one ahead of use where the communicator has collectives in the order of a stream. Vectors are
// whole.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <type_traits>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/ranks.cuh>
#include <hull/backend/cuda/weights.cuh>
#include <hull/net/blocks.hpp>
#include <hull/net/parameters.hpp>
#include <hull/shard/sharded_parameters.hpp>

namespace hull::cuda {

/// Whether a member's rank holds parts of weight tensors only.
template <class Member>
concept HoldsParts = requires {
  typename Member::weights_type::sharded;
};

/// As whole_weights, block by block. All ranks ask for the same blocks in the same order.
template <Network Net, class Member>
class sharded_weights final {
  using communicator = typename Member::communicator;
  using ranks_type = device_ranks<communicator>;

 public:
  static constexpr auto const& blocks = weight_blocks<Net, weight_block_bytes>;

  /// What a rank holds on its device.
  [[nodiscard]] static constexpr parameter_bytes held(std::size_t ranks) {
    parameter_bytes bytes = sharded_bytes<Net, weight_block_bytes>(ranks);
    if (ranks == 1) bytes.buffers = 0;  // its parts are the blocks
    return bytes;
  }

  /// Collects blocks of the host's parts, one after the other, and keeps the device's. `scan`: also finds the largest
  /// weights. A collective.
  sharded_weights(Member const& member, device const& at, bool scan)
      : at_(&at), member_(member), ranks_(member.others().background()), vectors_(allocate<float>(layout.vectors)) {
    parameter_bytes const bytes = held(ranks_.size());
    shards_ = allocate<float>(bytes.shards / sizeof(float));
    if (ranks_.size() > 1) {
      buffers_ = allocate<float>(bytes.buffers / sizeof(float));
      for (std::size_t side : {0, 1}) side_[side].floats = buffers_.get() + side * (bytes.buffers / sizeof(float) / 2);
    }
    write_vectors<Net>(at, member.weights(), vectors_.get());
    std::size_t shard = 0;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      shard_at_[b] = shard;
      shard += blocks[b].part(ranks_.size());
    }
    graph<Net>::for_each([&]<std::size_t I> {
      if constexpr (hull::detail::has_weight_tensor<Net, I>()) load<I>(scan);
    });
    for (std::size_t going : {0, 1}) {
      for (std::size_t b = 0; b < blocks.size(); ++b) after_[going][b] = guess_after(static_cast<way>(going), b);
    }
  }
  sharded_weights(sharded_weights const&) = delete;
  sharded_weights& operator=(sharded_weights const&) = delete;
  ~sharded_weights() {
    try {                            // nothing is freed that is in use
      ranks_.finish(stream_.get());  // the other ranks are in the same collective
      at_->finish();
    } catch (std::exception const&) {  // they are not: one is lost, and whoever waits for work has said so
    }
  }

  [[nodiscard]] weights_view<Net> view() const { return {vectors_.get()}; }

  template <std::size_t I>
  [[nodiscard]] float largest() const {
    return largest_[I];
  }

  template <std::size_t I, class F>
  void each_block(way going, F&& f) const {
    constexpr std::size_t first = first_block<I>();
    for (std::size_t b = first; b < blocks.size() && blocks[b].slot == blocks[first].slot; ++b) {
      auto const& block = blocks[b];
      use(b, going, [&](float const* weight) {
        f(column_block{weight, block.last - block.first, block.first, block.last});
      });
    }
  }
  template <std::size_t I, class F>
  void any_blocks(way going, F&& f) const {
    each_block<I>(going, f);
  }
  template <std::size_t I, class F>
  void filters(way going, F&& f) const {
    use(first_block<I>(), going, f);
  }

  /// What collecting blocks has cost. Waits for the device.
  [[nodiscard]] device_cost cost() const {
    device_cost all = ranks_.cost();
    if (ahead) all.exposed = stalls_.seconds();
    return all;
  }

 private:
  static constexpr auto const& layout = weight_layout_of<Net>;
  static constexpr std::size_t none = ~std::size_t{0};
  static constexpr bool ahead = ranks_type::in_stream;

  struct buffer final {
    float* floats = nullptr;
    std::size_t block = none;  // which is in it, or on its way there
    event ready, used;         // on the stream of collectives; on that of computations
  };

  template <std::size_t I>
  static consteval std::size_t first_block() {
    std::size_t b = 0;
    while (blocks[b].slot != hull::detail::first_slot<Net>[I]) ++b;
    return b;
  }

  /// The block that comes after block b in a pass, as long as nothing is known: of the same tensor, else the first one
  /// of the next tensor in this direction.
  static std::size_t guess_after(way going, std::size_t b) {
    if (b + 1 < blocks.size() && (blocks[b + 1].slot == blocks[b].slot || going == way::forward)) return b + 1;
    if (going == way::forward) return none;
    std::size_t first = b;
    while (first > 0 && blocks[first - 1].slot == blocks[b].slot) --first;
    if (first == 0) return none;
    std::size_t before = first - 1;
    while (before > 0 && blocks[before - 1].slot == blocks[before].slot) --before;
    return before;
  }

  /// Calls f(block b), and collects the one that came after it the last time while f's work is under way: rows come in
  /// chunks, chunks in steps, all of which make the same passes.
  template <class F>
  void use(std::size_t b, way going, F&& f) const {
    if (ranks_.size() == 1) return f(static_cast<float const*>(shards_.get() + shard_at_[b]));
    if (last_ != nullptr) *last_ = b;
    last_ = &after_[static_cast<std::size_t>(going)][b];
    if (side_[0].block == b || side_[1].block == b) {
      here_ = side_[0].block == b ? 0 : 1;
    } else {
      here_ = 1 - here_;  // the other one is in use
    }
    buffer& now = side_[here_];
    if (now.block != b) collect(now, b);
    if constexpr (ahead) {
      if (stalls_.full()) at_->finish();
      stalls_.time(at_->stream(), [&] { now.ready.awaited_by(at_->stream()); });
    }
    try {
      f(static_cast<float const*>(now.floats));
    } catch (std::exception const& e) {  // the others wait for the next block
      member_.others().fail(e.what());
      throw;
    }
    if (ahead) now.used.record(at_->stream());
    buffer& other = side_[1 - here_];
    if (ahead && *last_ != none && *last_ != b && *last_ != other.block) collect(other, *last_);
  }

  void collect(buffer& to, std::size_t b) const {
    cudaStream_t const stream = ahead ? stream_.get() : at_->stream();
    std::size_t const part = blocks[b].part(ranks_.size());
    if (ahead) to.used.awaited_by(stream);
    to.block = none;  // if the collective throws
    ranks_.all_gather(shards_.get() + shard_at_[b], to.floats, part, stream);
    to.block = b;
    if (ahead) to.ready.record(stream);
  }

  /// The parts of node I's tensor that belong to this rank, from the host's blocks of it.
  template <std::size_t I>
  void load(bool scan) {
    constexpr std::size_t first = first_block<I>();
    std::size_t end = first;
    while (end < blocks.size() && blocks[end].slot == blocks[first].slot) ++end;
    std::size_t const ranks = ranks_.size();
    std::size_t const floats = shard_at_[end - 1] + blocks[end - 1].part(ranks) - shard_at_[first];
    std::vector<float> own(floats, 0.0f);
    auto const take = [&](weight_block const& host, float const* from) {
      if (scan) largest_[I] = std::max(largest_[I], largest_magnitude(from, host.floats()));
      for (std::size_t b = first; b < end; ++b) {
        copy_part(host, from, blocks[b], own.data() + (shard_at_[b] - shard_at_[first]));
      }
    };
    if constexpr (HeadOf<typename graph<Net>::template op<I>, linear_head>) {
      member_.weights().template each_block<I>([&](column_block const& host) {
        take({blocks[first].slot, blocks[first].rows, blocks[first].columns, host.first, host.last}, host.weight);
      });
    } else {
      member_.weights().template filters<I>([&](float const* all) { take(blocks[first], all); });
    }
    at_->write(shards_.get() + shard_at_[first], own.data(), own.size());
  }

  /// What block `from` of a tensor has of this rank's part of block `to` of it. Both are packed.
  void copy_part(weight_block const& from, float const* numbers, weight_block const& to, float* part) const {
    std::size_t const first = std::max(from.first, to.first), last = std::min(from.last, to.last);
    if (first >= last) return;
    std::size_t const width = to.last - to.first, size = to.part(ranks_.size());
    std::size_t const begin = std::min(size * ranks_.rank(), to.floats()), end = std::min(begin + size, to.floats());
    cpu::parallel_for(to.rows, last - first, [&](std::size_t r) {
      std::size_t const row = r * width;  // where column to.first is
      std::size_t const low = std::max(first, to.first + (begin > row ? begin - row : 0));
      std::size_t const high = std::min(last, to.first + (end > row ? end - row : 0));
      if (low >= high) return;
      std::copy_n(numbers + r * (from.last - from.first) + (low - from.first), high - low,
                  part + (row + (low - to.first) - begin));
    });
  }

  device const* at_;
  Member member_;
  mutable ranks_type ranks_;
  urgent_stream stream_;
  device_block<float> vectors_, shards_, buffers_;
  mutable std::array<buffer, 2> side_;
  mutable std::size_t here_ = 0;  // the side that is in use
  mutable stopwatch_events stalls_;
  std::array<std::size_t, blocks.size() + 1> shard_at_{};                      // [block]
  mutable std::array<std::array<std::size_t, blocks.size() + 1>, 2> after_{};  // [way][block]
  mutable std::size_t* last_ = nullptr;                                        // what comes after the last block in use
  std::array<float, graph<Net>::size> largest_{};
};

/// How a machine of this member holds its parameters.
template <Network Net, class Member>
struct weights_of final {
  using type = whole_weights<Net, Member>;
};
template <Network Net, HoldsParts Member>
struct weights_of<Net, Member> final {
  using type = sharded_weights<Net, Member>;
};

}  // namespace hull::cuda
