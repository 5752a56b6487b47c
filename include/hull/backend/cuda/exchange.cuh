// SPDX-License-Identifier: Apache-2.0
// Boxes and intervals on their way between host, device and other ranks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/rows.cuh>
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

/// Gives every rank the intervals of neurons[0, count), of which each rank has refined its share.
template <class Member>
void gather_intervals(device const& at, Member const& member, stage_state const& s, std::size_t batch,
                      index_t const* neurons, std::size_t count) {
  std::vector<index_t> names(count);
  std::vector<float> ends(batch * s.size);
  std::vector<double> values(count);
  at.read(names.data(), neurons, count);
  for (float* const side : std::array<float*, 2>{s.lower, s.upper}) {
    at.read(ends.data(), side, ends.size());
    for (std::size_t i = 0; i < count; ++i) values[i] = ends[names[i]];
    member.gather(values.data(), count);
    for (std::size_t i = 0; i < count; ++i) ends[names[i]] = static_cast<float>(values[i]);
    at.write(side, ends.data(), ends.size());
  }
}

}  // namespace hull::cuda
