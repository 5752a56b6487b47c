// SPDX-License-Identifier: Apache-2.0
// Chosen rows of arrays on their way between host and device: many in one copy, through the mail.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cuda/device.cuh>

namespace hull::cuda {

inline constexpr unsigned transfer_threads = 128;

/// Row i of `to` becomes row rows[i] of `from`, all [r, width]. One block for each row.
static __global__ void gather_rows_kernel(float* to, float const* from, std::size_t width, index_t const* rows) {
  std::size_t const i = blockIdx.x, r = rows[i];
  for (std::size_t c = threadIdx.x; c < width; c += blockDim.x) to[i * width + c] = from[r * width + c];
}

/// Calls f(i, row) for rows[i] of an array [r, width], from several threads. `f` does not call the device.
template <class F>
void read_rows(device const& at, float const* from, std::size_t width, std::span<index_t const> rows, F&& f) {
  static_assert(sizeof(index_t) == sizeof(float));
  constexpr std::size_t room = device::mail_bytes / sizeof(float);
  if (width == 0) {
    for (std::size_t i = 0; i < rows.size(); ++i) f(i, from);
    return;
  }
  if (width >= room) {  // one copy for each row is no loss
    std::vector<float> row(width);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      at.read(row.data(), from + rows[i] * width, width);
      f(i, row.data());
    }
    return;
  }
  std::size_t const most = room / (width + 1);  // a piece is its rows, then the list of their numbers
  auto* const data = reinterpret_cast<float*>(at.mail());
  for (std::size_t first = 0; first < rows.size(); first += most) {
    auto const some = rows.subspan(first, std::min(most, rows.size() - first));
    auto* const list = reinterpret_cast<index_t*>(data + some.size() * width);
    at.write(list, some.data(), some.size());
    gather_rows_kernel<<<static_cast<unsigned>(some.size()), transfer_threads, 0, at.stream()>>>(data, from, width,
                                                                                                 list);
    check_launch("read_rows");
    float const* const found = at.receive(data, some.size() * width);
    cpu::parallel_for(some.size(), width, [&](std::size_t i) { f(first + i, found + i * width); });
  }
}

/// Fills row r of `to` [r, width] from sources[r]. Near rows often have the same source, as trials of branch and bound
/// have: it travels once.
inline void write_rows(device const& at, float* to, std::size_t width, std::span<float const* const> sources) {
  // pieces are smaller than the mail, so that the host fills one while another travels
  constexpr std::size_t room = device::mail_bytes / sizeof(float) / 4;
  constexpr std::size_t near = 8;
  if (width == 0) return;
  if (width >= room) {
    for (std::size_t r = 0; r < sources.size(); ++r) at.write(to + r * width, sources[r], width);
    return;
  }
  std::vector<float const*> distinct;
  std::vector<index_t> place;  // of each row's source among them
  auto* const data = reinterpret_cast<float*>(at.mail());
  for (std::size_t first = 0; first < sources.size(); first += place.size()) {
    distinct.clear();
    place.clear();
    for (float const* const source : sources.subspan(first)) {
      auto const from = distinct.end() - static_cast<std::ptrdiff_t>(std::min(near, distinct.size()));
      auto const found = std::find(from, distinct.end(), source);
      std::size_t const more = found == distinct.end() ? 1 : 0;
      if ((distinct.size() + more) * width + place.size() + 1 > room) break;
      place.push_back(static_cast<index_t>(found - distinct.begin()));
      if (more > 0) distinct.push_back(source);
    }
    std::size_t const bytes = distinct.size() * width * sizeof(float);
    std::byte* const staged = at.stage(bytes + place.size() * sizeof(index_t));
    cpu::parallel_for(distinct.size(), width, [&](std::size_t i) {
      std::memcpy(staged + i * width * sizeof(float), distinct[i], width * sizeof(float));
    });
    if (distinct.size() == place.size()) {
      at.send(to + first * width, bytes);
      continue;
    }
    std::memcpy(staged + bytes, place.data(), place.size() * sizeof(index_t));
    at.send(data, bytes + place.size() * sizeof(index_t));
    gather_rows_kernel<<<static_cast<unsigned>(place.size()), transfer_threads, 0, at.stream()>>>(
        to + first * width, data, width, reinterpret_cast<index_t const*>(data + distinct.size() * width));
    check_launch("write_rows");
  }
}

}  // namespace hull::cuda
