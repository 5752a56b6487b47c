// SPDX-License-Identifier: Apache-2.0
// What ranks need of each other: a few collectives. And the communicator of one rank, where they cost nothing.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

namespace hull {

/// P ranks that call the same collectives in the same order. A collective returns when this rank's part is done, or
/// throws hull::error (fault::device) that names the rank that failed; no collective waits for ever for a rank that is
/// gone.
///
///   all_gather  `all` [size, bytes] gets the `part` [bytes] of every rank, in the order of ranks
///   sum         `values` [count] becomes the sum over all ranks, the same bits on each
///   any         the bitwise or of every rank's `bits`
///   fail        this rank cannot go on: the others' collectives throw
///   background  another communicator of the same ranks, for one more thread of each rank
template <class C>
concept Communicator = requires(C& ranks, std::byte const* part, std::byte* all, std::size_t count, float* floats,
                                double* doubles, unsigned bits) {
  { ranks.rank() } -> std::same_as<std::size_t>;
  { ranks.size() } -> std::same_as<std::size_t>;
  ranks.all_gather(part, all, count);
  ranks.sum(floats, count);
  ranks.sum(doubles, count);
  { ranks.any(bits) } -> std::same_as<unsigned>;
  ranks.fail(std::string());
  { ranks.background() } -> std::same_as<C&>;
};

/// Collectives on device memory, in the order of a stream: what they read was written by earlier work on it, what they
/// write may be read by later work. They return at once; all ranks call them in the same order as the others. A rank
/// that waits for such work calls `finish`, which throws as a collective does where waiting for the stream alone could
/// hang. Freeing memory of the device waits for all of its work: not while another thread's collectives are under way.
///
///   all_gather_device, sum_device   as all_gather and sum, on pointers of the device
///   finish                          waits for all work of the stream
template <class C, class Stream>
concept DeviceCommunicator = Communicator<C> &&
    requires(C& ranks, std::byte const* part, std::byte* all, std::size_t count, float* floats, double* doubles,
             Stream stream) {
  ranks.all_gather_device(part, all, count, stream);
  ranks.sum_device(floats, count, stream);
  ranks.sum_device(doubles, count, stream);
  ranks.finish(stream);
};

/// Why ranks stopped, empty while all are well: of communicators that know it outside collectives.
template <Communicator C>
[[nodiscard]] std::string lost_rank(C const& ranks) {
  if constexpr (requires { ranks.lost(); }) return ranks.lost();
  return {};
}

/// `any` of a communicator that has no operation of its own for it.
template <class C>
[[nodiscard]] unsigned gathered_bits(C& ranks, unsigned bits) {
  std::vector<unsigned> every(ranks.size());
  ranks.all_gather(reinterpret_cast<std::byte const*>(&bits), reinterpret_cast<std::byte*>(every.data()), sizeof bits);
  unsigned all = 0;
  for (unsigned const one : every) all |= one;
  return all;
}

/// One rank.
class Solo final {
 public:
  [[nodiscard]] static std::size_t rank() { return 0; }
  [[nodiscard]] static std::size_t size() { return 1; }
  static void all_gather(std::byte const* part, std::byte* all, std::size_t bytes) {
    if (part != all) std::copy_n(part, bytes, all);
  }
  static void sum(float* /*values*/, std::size_t /*count*/) {}
  static void sum(double* /*values*/, std::size_t /*count*/) {}
  [[nodiscard]] static unsigned any(unsigned bits) { return bits; }
  static void fail(std::string const& /*why*/) {}
  [[nodiscard]] Solo& background() { return *this; }
};

static_assert(Communicator<Solo>);

}  // namespace hull
