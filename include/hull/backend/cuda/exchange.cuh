// SPDX-License-Identifier: Apache-2.0
// Boxes and intervals on their way between host, device and other ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/rows.cuh>
#include <hull/propagate/share.hpp>
#include <hull/propagate/specification.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cuda {

/// Gives the input stage the boxes, rounded outward to floats.
inline void write_boxes(device const& at, stage_state const& s,
                        std::span<std::vector<input_range> const* const> boxes) {
  std::vector<float> lower, upper;
  for (auto const* box : boxes) {
    for (input_range const range : *box) {
      lower.push_back(down::from_double(range.lower));
      upper.push_back(up::from_double(range.upper));
    }
  }
  at.write(s.lower, lower.data(), lower.size());
  at.write(s.upper, upper.data(), upper.size());
}

/// Intersects the intervals of a head with known ones: [b] lists of `size` lower and `size` upper bounds, null where
/// nothing is known.
inline void narrow_head(device const& at, stage_state const& s, std::span<float const* const> known,
                        std::size_t offset) {
  constexpr std::size_t most = device::mail_bytes / sizeof(float) / 2;
  constexpr unsigned threads = 128;
  auto* const mail = reinterpret_cast<float*>(at.mail());
  for (std::size_t b = 0; b < known.size(); ++b) {
    for (std::size_t done = 0; known[b] != nullptr && done < s.size; done += most) {
      std::size_t const now = std::min(most, s.size - done);
      at.write(mail, known[b] + offset + done, now);
      at.write(mail + now, known[b] + offset + s.size + done, now);
      narrow_kernel<<<blocks_for(now, threads), threads, 0, at.stream()>>>(s, b * s.size + done, now, mail);
      check_launch("narrow");
    }
  }
}

/// Places of intervals that ranks exchange: rank r has part r of `count` neurons, of which [done, done + now) travel.
struct interval_parts final {
  stage_state s;
  index_t const* neurons;
  std::size_t count, done, now, rank, ranks;
  float* places;  // [rank, side, now]
};
/// The rank's own intervals to their places; or all others' from there.
template <bool Pack>
__global__ void exchange_intervals_kernel(interval_parts p) {
  std::size_t const at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= (Pack ? 1 : p.ranks) * p.now) return;
  std::size_t const rank = Pack ? p.rank : at / p.now, i = at % p.now;
  row_range const part = share_of(p.count, rank, p.ranks);
  std::size_t const number = part.first + p.done + i;
  if (number >= part.last || (!Pack && rank == p.rank)) return;
  index_t const neuron = p.neurons[number];
  float* const place = p.places + rank * 2 * p.now + i;
  if constexpr (Pack) {
    place[0] = p.s.lower[neuron];
    place[p.now] = p.s.upper[neuron];
  } else {
    p.s.lower[neuron] = place[0];
    p.s.upper[neuron] = place[p.now];
  }
}

/// Gives every rank the intervals of neurons[0, count), of which each rank has refined its share. `ranks`:
/// device_ranks.
template <class Ranks>
void gather_intervals(device const& at, Ranks& ranks, stage_state const& s, index_t const* neurons, std::size_t count) {
  constexpr unsigned threads = 128;
  auto* const places = reinterpret_cast<float*>(at.mail());
  std::size_t const each = largest_share(count, ranks.size());
  std::size_t const most = device::mail_bytes / sizeof(float) / 2 / ranks.size();
  for (std::size_t done = 0; done < each; done += most) {
    std::size_t const now = std::min(most, each - done);
    interval_parts const parts{s, neurons, count, done, now, ranks.rank(), ranks.size(), places};
    exchange_intervals_kernel<true><<<blocks_for(now, threads), threads, 0, at.stream()>>>(parts);
    ranks.all_gather(places + ranks.rank() * 2 * now, places, 2 * now, at.stream());
    exchange_intervals_kernel<false><<<blocks_for(now * ranks.size(), threads), threads, 0, at.stream()>>>(parts);
    check_launch("gather_intervals");
  }
}

}  // namespace hull::cuda
