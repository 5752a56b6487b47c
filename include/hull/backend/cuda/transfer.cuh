// SPDX-License-Identifier: Apache-2.0
// Chosen rows of arrays on their way between host and device: many in one copy, through the mail.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/cuda/device.cuh>
#include <hull/core/config.hpp>
#include <hull/propagate/free.hpp>

namespace hull::cuda {

inline constexpr unsigned transfer_threads = 128;

template <class To, class From>
[[nodiscard]] HULL_FN To row_number(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<To, float>) {
    return unpack_alpha(x);
  } else {
    return pack_alpha(x);
  }
}

/// Row i of `to` becomes row rows[i] of `from`, all [r, width]. One block for each row.
template <class To, class From>
__global__ void gather_rows_kernel(To* to, From const* from, std::size_t width, index_t const* rows) {
  std::size_t const i = blockIdx.x, r = rows[i];
  for (std::size_t c = threadIdx.x; c < width; c += blockDim.x) to[i * width + c] = row_number<To>(from[r * width + c]);
}

/// Bytes of the numbers of `rows` rows, which lie before the rows themselves.
[[nodiscard]] constexpr std::size_t list_bytes(std::size_t rows) { return (rows * sizeof(index_t) + 7) / 8 * 8; }

/// Calls f(i, row of T) for rows[i] of an array [r, width], from several threads. `f` does not call the device.
template <class T, class F>
void read_rows(device const& at, float const* from, std::size_t width, std::span<index_t const> rows, F&& f) {
  if (rows.empty()) return;
  if (device::mail_bytes < list_bytes(1) + width * sizeof(T)) {  // one copy for each row is no loss
    std::vector<float> row(width);
    std::vector<T> numbers(width);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      at.read(row.data(), from + rows[i] * width, width);
      std::transform(row.begin(), row.end(), numbers.begin(), row_number<T, float>);
      f(i, numbers.data());
    }
    return;
  }
  std::size_t const most = device::mail_bytes / (list_bytes(1) + width * sizeof(T));
  auto* const list = reinterpret_cast<index_t*>(at.mail());
  for (std::size_t first = 0; first < rows.size(); first += most) {
    auto const some = rows.subspan(first, std::min(most, rows.size() - first));
    auto* const data = reinterpret_cast<T*>(at.mail() + list_bytes(some.size()));
    at.write(list, some.data(), some.size());
    gather_rows_kernel<<<static_cast<unsigned>(some.size()), transfer_threads, 0, at.stream()>>>(data, from, width,
                                                                                                 list);
    check_launch("read_rows");
    T const* const found = at.receive(data, some.size() * width);
    cpu::parallel_for(some.size(), width, [&](std::size_t i) { f(first + i, found + i * width); });
  }
}

/// Fills row r of `to` [r, width] from sources[r]. Near rows often have the same source, as trials of branch and bound
/// have: it travels once.
template <class T>
void write_rows(device const& at, float* to, std::size_t width, std::span<T const* const> sources) {
  // pieces are smaller than the mail, so that the host fills one while another travels
  constexpr std::size_t room = device::mail_bytes / 4, near = 8;
  std::size_t const one = width * sizeof(T);
  if (width == 0) return;
  if (list_bytes(1) + one > room) {
    std::vector<float> row(width);
    for (std::size_t r = 0; r < sources.size(); ++r) {
      std::transform(sources[r], sources[r] + width, row.begin(), row_number<float, T>);
      at.write(to + r * width, row.data(), width);
    }
    return;
  }
  std::vector<T const*> distinct;
  std::vector<index_t> place;  // of each row's source among them
  auto const* const list = reinterpret_cast<index_t const*>(at.mail());
  for (std::size_t first = 0; first < sources.size(); first += place.size()) {
    distinct.clear();
    place.clear();
    for (T const* const source : sources.subspan(first)) {
      auto const from = distinct.end() - static_cast<std::ptrdiff_t>(std::min(near, distinct.size()));
      auto const found = std::find(from, distinct.end(), source);
      std::size_t const more = found == distinct.end() ? 1 : 0;
      if (list_bytes(place.size() + 1) + (distinct.size() + more) * one > room) break;
      place.push_back(static_cast<index_t>(found - distinct.begin()));
      if (more > 0) distinct.push_back(source);
    }
    std::size_t const before = list_bytes(place.size()), bytes = before + distinct.size() * one;
    std::byte* const staged = at.stage(bytes);
    std::memcpy(staged, place.data(), place.size() * sizeof(index_t));
    cpu::parallel_for(distinct.size(), width,
                      [&](std::size_t i) { std::memcpy(staged + before + i * one, distinct[i], one); });
    at.send(at.mail(), bytes);
    gather_rows_kernel<<<static_cast<unsigned>(place.size()), transfer_threads, 0, at.stream()>>>(
        to + first * width, reinterpret_cast<T const*>(at.mail() + before), width, list);
    check_launch("write_rows");
  }
}

}  // namespace hull::cuda
