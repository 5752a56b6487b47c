// SPDX-License-Identifier: Apache-2.0
// Scores of the neurons that rows might split: as cpu::score_rows, with the same result to the bit.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/propagate/free.hpp>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/split_candidates.hpp>
#include <hull/propagate/state.hpp>

namespace hull::cuda {

/// A stage whose neurons are scored: coefficients of all rows at its output, [r, live].
struct scored_stage final {
  float const* a;
  std::size_t live;
  free_columns f;
};

/// A candidate as one number. The greatest has the greatest score, which is positive, and of those the least parameter.
/// 0: none.
using score_key = unsigned long long;
[[nodiscard]] HULL_FN inline score_key key_of(float score, index_t parameter) {
  return score_key{std::bit_cast<std::uint32_t>(score)} << 32 | static_cast<index_t>(~parameter);
}
[[nodiscard]] inline float score_in(score_key key) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(key >> 32));
}
[[nodiscard]] inline index_t parameter_in(score_key key) { return static_cast<index_t>(~key); }

/// The greatest keys that one thread has seen, greatest first.
struct top_keys final {
  score_key key[split_candidates::each] = {};

  [[nodiscard]] __device__ bool takes(score_key k) const { return k > key[split_candidates::each - 1]; }
  __device__ void offer(score_key k) {
#pragma unroll
    for (score_key& mine : key) {
      if (k <= mine) continue;
      score_key const less = mine;
      mine = k;
      k = less;
    }
  }
  __device__ void drop_first() {
#pragma unroll
    for (std::size_t i = 0; i + 1 < split_candidates::each; ++i) key[i] = key[i + 1];
    key[split_candidates::each - 1] = 0;
  }
};

/// The greatest of the warp's keys, in every lane.
[[nodiscard]] __device__ inline score_key warp_greatest(score_key k) {
  for (unsigned step = warp / 2; step > 0; step /= 2) {
    score_key const other = __shfl_xor_sync(0xffffffffU, k, step);
    k = other > k ? other : k;
  }
  return k;
}

/// The candidates of row rows[i] go to best[i], [list, rank]. One block for each row.
static __global__ void __launch_bounds__(row_threads)
    score_rows_kernel(scored_stage const* stages, unsigned count, free_rows p, index_t const* rows, score_key* best) {
  constexpr unsigned each = split_candidates::each, warps = row_threads / warp;
  __shared__ score_key parts[2][warps];
  std::size_t const r = rows[blockIdx.x];
  unsigned const taken_count = p.splits == 0 ? 0 : p.split_count[r];
  index_t const* const taken = p.split_parameter + r * p.splits;
  top_keys top[2];
  for (unsigned k = 0; k < count; ++k) {
    free_columns const f = stages[k].f;
    float const* const row = stages[k].a + r * stages[k].live;
    for (std::size_t i = threadIdx.x; i < f.count; i += row_threads) {
      float const x = row[f.column[i]];
      if (x == 0) continue;
      auto const score = score_of(f, i, x);
      auto const parameter = static_cast<index_t>(f.offset + i);
      // a score that is NaN is not positive either
      score_key const first = score.change > 0 ? key_of(score.change, parameter) : 0;
      score_key const second = score.intercept > 0 ? key_of(score.intercept, parameter) : 0;
      if (!top[0].takes(first) && !top[1].takes(second)) continue;
      bool split = false;
      for (unsigned q = 0; q < taken_count; ++q) split = split || taken[q] == parameter;
      if (split) continue;
      top[0].offer(first);
      top[1].offer(second);
    }
  }
  unsigned const lane = threadIdx.x % warp, own = threadIdx.x / warp;
  for (unsigned rank = 0; rank < each; ++rank) {
#pragma unroll
    for (unsigned list = 0; list < 2; ++list) {
      score_key const mine = warp_greatest(top[list].key[0]);
      if (lane == 0) parts[list][own] = mine;
    }
    __syncthreads();
#pragma unroll
    for (unsigned list = 0; list < 2; ++list) {
      score_key greatest = 0;
      for (unsigned w = 0; w < warps; ++w) greatest = parts[list][w] > greatest ? parts[list][w] : greatest;
      if (threadIdx.x == 0) best[blockIdx.x * 2 * each + list * each + rank] = greatest;
      if (top[list].key[0] == greatest) top[list].drop_first();  // keys differ, so one thread has it
    }
    __syncthreads();  // all have read the parts
  }
}

/// The candidates of each row, of the stages that `stages` takes.
template <Network Net>
void score_rows(device const& at, network_state<Net> const& state, free_state<Net> const& free, free_rows const& p,
                coefficient_views<Net> const& a, std::span<index_t const> rows,
                std::array<bool, stage_count<Net>> const& stages, std::span<split_candidates> found) {
  constexpr std::size_t keys = 2 * split_candidates::each, one = sizeof(index_t) + keys * sizeof(score_key);
  static_assert(2 * stage_count<Net> * sizeof(scored_stage) <= device::mail_bytes);
  std::vector<scored_stage> scored;
  for (std::size_t k = 1; k < stage_count<Net>; ++k) {
    if (stages[k] && a[k] != nullptr && free.stage[k].count > 0)
      scored.push_back({a[k], state.stage[k].live_count, free.stage[k]});
  }
  // the mail: stages, keys, numbers of rows; every piece brings its rows, the first one the stages
  std::size_t const head = scored.size() * sizeof(scored_stage), most = (device::mail_bytes - head) / one;
  at.write(reinterpret_cast<scored_stage*>(at.mail()), scored.data(), scored.size());
  auto* const best = reinterpret_cast<score_key*>(at.mail() + head);
  for (std::size_t first = 0; first < rows.size(); first += most) {
    auto const some = rows.subspan(first, std::min(most, rows.size() - first));
    auto* const list = reinterpret_cast<index_t*>(best + some.size() * keys);
    at.write(list, some.data(), some.size());
    score_rows_kernel<<<static_cast<unsigned>(some.size()), row_threads, 0, at.stream()>>>(
        reinterpret_cast<scored_stage const*>(at.mail()), static_cast<unsigned>(scored.size()), p, list, best);
    check_launch("score_rows");
    score_key const* key = at.receive(best, some.size() * keys);
    for (std::size_t i = 0; i < some.size(); ++i) {
      split_candidates& to = found[first + i] = {};
      for (std::size_t at_key = 0; at_key < keys; ++at_key, ++key) {
        if (*key == 0) continue;
        to.parameter[at_key] = parameter_in(*key);
        to.score[at_key] = score_in(*key);
        ++to.count[at_key / split_candidates::each];
      }
    }
  }
}

}  // namespace hull::cuda
