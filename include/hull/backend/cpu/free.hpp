// SPDX-License-Identifier: Apache-2.0
// Which columns of a stage are free.
#pragma once

#include <hull/backend/free_lines.hpp>

namespace hull::cpu {

/// Fills the free columns of stage S after its relaxation, for a batch of one box. `offset`: parameters of the stages
/// before. `head_bias(i)`: constant of the head at element i.
template <class S, class R, class Parameters, class Bias>
void find_free(Parameters const& weights, stage_state const& s, free_columns& f, std::size_t offset,
               std::size_t roundings, Bias&& head_bias) {
  double const product_error = gamma(roundings, unit_float), sum_error = gamma(4 * S::size + 256, unit_double);
  f.offset = offset;
  f.count = 0;
  for (std::size_t c = 0; c < s.live_count; ++c) {
    set_fixed<R>(s, f, c, sum_error);
    if (!set_free<S, R>(weights, s, f, c, f.count, product_error, sum_error, head_bias(s.live[c]))) continue;
    f.column[f.count++] = static_cast<index_t>(c);
    clear_fixed(f, c);
  }
}

}  // namespace hull::cpu
