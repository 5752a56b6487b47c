// SPDX-License-Identifier: Apache-2.0
// The parameters of a network in device memory: vectors, which kernels find by their type, and the weight tensors of
// Linear and Conv, which steps ask for by node. Here a rank has all of them; sharded_weights.cuh has the other case.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cuda/device.cuh>
#include <hull/core/config.hpp>
#include <hull/net/blocks.hpp>
#include <hull/net/parameters.hpp>
#include <hull/shard/sharded_parameters.hpp>

namespace hull::cuda {

#ifndef HULL_DEVICE_BLOCK_BYTES
#define HULL_DEVICE_BLOCK_BYTES 33554432
#endif

/// Matrices come in blocks of columns of about this size: enough work for all processors, little beside the memory of a
/// device. Sums over the columns of wider matrices depend on it in their last bits.
inline constexpr std::size_t weight_block_bytes = HULL_DEVICE_BLOCK_BYTES;

/// Which blocks come next: those of the operands, or those of the readers.
enum class way { back, forward };

/// Where parameters lie in two lists, vectors and weight tensors, each beginning on a cache line.
template <Network Net>
struct weight_layout final {
  static constexpr std::size_t slots = parameter_slots<Net>.size();

  std::array<bool, slots + 1> is_tensor{};
  std::array<std::size_t, slots + 1> offset{};  // [slot] in its list
  std::size_t vectors = 0, tensors = 0;         // floats of the lists

  consteval weight_layout() {
    for (auto const& block : weight_blocks<Net>) is_tensor[block.slot] = true;
    for (std::size_t at = 0; at < slots; ++at) {
      std::size_t& list = is_tensor[at] ? tensors : vectors;
      offset[at] = list;
      list += (parameter_slots<Net>[at].count + 15) / 16 * 16;
    }
  }
};
template <Network Net>
inline constexpr weight_layout<Net> weight_layout_of{};

/// The vectors, as kernels take them by value.
template <Network Net>
struct weights_view final {
  float const* vectors = nullptr;

  template <std::size_t I, std::size_t Slot>
  [[nodiscard]] HULL_FN float const* tensor() const {
    constexpr std::size_t slot = hull::detail::first_slot<Net>[I] + Slot, offset = weight_layout_of<Net>.offset[slot];
    static_assert(!weight_layout_of<Net>.is_tensor[slot], "hull: kernels get weight tensors as pointers");
    return vectors + offset;
  }
  template <std::size_t I>
  [[nodiscard]] HULL_FN auto element(std::size_t index) const {
    return bind_element<Net, I>(*this, index);
  }
};

/// The largest magnitude of `count` numbers.
[[nodiscard]] inline float largest_magnitude(float const* numbers, std::size_t count) {
  constexpr std::size_t piece = std::size_t{1} << 16;
  std::vector<float> largest((count + piece - 1) / piece, 0.0f);
  cpu::parallel_for(largest.size(), piece, [&](std::size_t p) {
    for (std::size_t i = p * piece; i < std::min(count, (p + 1) * piece); ++i) {
      largest[p] = std::max(largest[p], std::fabs(numbers[i]));
    }
  });
  return largest.empty() ? 0.0f : *std::max_element(largest.begin(), largest.end());
}

/// Sends the vectors of `source` to `to`.
template <Network Net, class Weights>
void write_vectors(device const& at, Weights const& source, float* to) {
  graph<Net>::for_each([&]<std::size_t I> {
    constexpr std::size_t first = hull::detail::first_slot<Net>[I], last = hull::detail::first_slot<Net>[I + 1];
    [&]<std::size_t... P>(std::index_sequence<P...>) {
      [[maybe_unused]] auto const send = [&]<std::size_t Slot> {
        if constexpr (!weight_layout_of<Net>.is_tensor[first + Slot]) {
          at.write(to + weight_layout_of<Net>.offset[first + Slot], source.template tensor<I, Slot>(),
                   parameter_slots<Net>[first + Slot].count);
        }
      };
      (send.template operator()<P>(), ...);
    }
    (std::make_index_sequence<last - first>{});
  });
}

/// All parameters. `Member` is that of a machine (shard/member.hpp).
template <Network Net, class Member>
class whole_weights final {
 public:
  /// `scan`: also finds the largest weights. Copies before it returns.
  whole_weights(Member const& member, device const& at, bool scan)
      : vectors_(allocate<float>(layout.vectors)), tensors_(allocate<float>(layout.tensors)) {
    write_vectors<Net>(at, member.weights(), vectors_.get());
    graph<Net>::for_each([&]<std::size_t I> {
      if constexpr (hull::detail::has_weight_tensor<Net, I>()) {
        float const* const from = member.weights().template tensor<I, 0>();
        std::size_t const count = parameter_slots<Net>[hull::detail::first_slot<Net>[I]].count;
        at.write(tensors_.get() + offset<I>(), from, count);
        if (scan) largest_[I] = largest_magnitude(from, count);
      }
    });
  }

  [[nodiscard]] weights_view<Net> view() const { return {vectors_.get()}; }

  /// At least the magnitude of every weight of node I, if they were scanned.
  template <std::size_t I>
  [[nodiscard]] float largest() const {
    return largest_[I];
  }

  /// Where ranks have parts of one network's matrices: the largest of any rank, because one of them counts what the
  /// parts of all can lose. A collective.
  void agree_on_largest(Member const& member) {
    std::size_t const ranks = member.parts();
    std::vector<double> all(ranks * largest_.size(), 0.0);
    for (std::size_t i = 0; i < largest_.size(); ++i) all[i * ranks + member.place()] = largest_[i];
    member.sum(all.data(), all.size());
    for (std::size_t i = 0; i < largest_.size(); ++i) {
      for (std::size_t r = 0; r < ranks; ++r)
        largest_[i] = std::max(largest_[i], static_cast<float>(all[i * ranks + r]));
    }
  }

  /// Calls f(column_block) for the blocks of the matrix of Linear node I, in order.
  template <std::size_t I, class F>
  void each_block(way, F&& f) const {
    constexpr std::size_t rows = graph<Net>::template shape<I>.size();
    for_blocks(
        rows, columns<I>(),
        [&](std::size_t first, std::size_t last) {
          f(column_block{tensors_.get() + offset<I>() + first, columns<I>(), first, last});
        },
        weight_block_bytes);
  }
  /// The same in blocks of any size: here the whole matrix.
  template <std::size_t I, class F>
  void any_blocks(way, F&& f) const {
    f(column_block{tensors_.get() + offset<I>(), columns<I>(), 0, columns<I>()});
  }
  /// Calls f(filters) with all filters of Conv node I.
  template <std::size_t I, class F>
  void filters(way, F&& f) const {
    f(static_cast<float const*>(tensors_.get() + offset<I>()));
  }

 private:
  static constexpr auto const& layout = weight_layout_of<Net>;

  template <std::size_t I>
  static constexpr std::size_t offset() {
    return layout.offset[hull::detail::first_slot<Net>[I]];
  }
  template <std::size_t I>
  static constexpr std::size_t columns() {
    return parameter_slots<Net>[hull::detail::first_slot<Net>[I]].count / graph<Net>::template shape<I>.size();
  }

  device_block<float> vectors_, tensors_;
  std::array<float, graph<Net>::size> largest_{};
};

}  // namespace hull::cuda
