// SPDX-License-Identifier: Apache-2.0
// Rows of a specification: as backend/cpu/forms.hpp, which says why it is sound.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/reduce.cuh>
#include <hull/backend/cuda/relax.cuh>
#include <hull/propagate/machine.hpp>
#include <hull/propagate/rounding_error.hpp>
#include <hull/scalar/rounding.hpp>

namespace hull::cuda {

/// One form of a specification, its terms in a list behind the forms: first those over the outputs.
struct form_header final {
  double constant;
  index_t first, outputs, inputs, unused;
};
struct form_term final {
  double coefficient;
  index_t index, unused;
};
/// What a row is made of: number of its form in the list.
struct form_use final {
  index_t box, form;
};

/// Starts rows at the outputs and inputs, one block for each; see cpu::seed_forms.
template <bool Outward>
__global__ void seed_forms_kernel(stage_state input, stage_state output, form_header const* forms,
                                  form_term const* terms, form_use const* uses, row_block rows, std::size_t first_row,
                                  float* a_input, float* a_output, double later_error) {
  constexpr double least_double = 0x1p-1022;
  std::size_t const r = first_row + blockIdx.x;
  if (a_output != nullptr) {
    for (std::size_t c = threadIdx.x; c < output.live_count; c += blockDim.x) a_output[r * output.live_count + c] = 0;
  }
  if (a_input != nullptr) {
    for (std::size_t c = threadIdx.x; c < input.live_count; c += blockDim.x) a_input[r * input.live_count + c] = 0;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  form_use const use = uses[blockIdx.x];
  form_header const form = forms[use.form];
  rows.box[r] = use.box;
  rows.index[r] = static_cast<index_t>(r);
  rows.sign[r] = 1;
  double value = form.constant, magnitude = std::fabs(form.constant), slack = 0;
  auto const add = [&](stage_state const& s, float* a, double error, std::size_t begin, std::size_t count) {
    for (std::size_t i = begin; i < begin + count; ++i) {
      form_term const t = terms[i];
      std::size_t const at = std::size_t{use.box} * s.size + t.index;
      double const centre = s.centre[at], part = __dmul_rn(t.coefficient, centre);
      value = __dadd_rn(value, part);
      magnitude += std::fabs(part);
      if (std::fabs(part) < least_double && t.coefficient != 0 && centre != 0) slack += least_double;  // underflow
      if (s.slot[t.index] == stage_state::dead) continue;  // the output is its centre
      float const rounded = static_cast<float>(t.coefficient);
      float& coefficient = a[r * s.live_count + s.slot[t.index]];
      bool const only = coefficient == 0;  // else the element is named twice, and the addition rounds
      coefficient += rounded;
      double const doubt = std::fabs(t.coefficient - rounded) + error * std::fabs(rounded) +
                           (only ? 0 : unit_float * std::fabs(coefficient));
      slack += doubt * s.spread[at];
    }
  };
  add(output, a_output, 0, form.first, form.outputs);
  add(input, a_input, later_error, form.first + form.outputs, form.inputs);
  std::size_t const count = std::size_t{form.outputs} + form.inputs;
  rows.value[r] = value;
  if (rows.far_value != nullptr) rows.far_value[r] = value;
  rows.slack[r] = Outward ? 1.001 * (slack + gamma_sum(2 * count) * magnitude) : 0;
}

/// Bounds such rows by the intervals of both ends, one block for each. `a` may be null.
template <bool Outward>
__global__ void __launch_bounds__(row_threads)
    interval_rows_kernel(stage_state input, stage_state output, row_block rows, float const* a_input,
                         float const* a_output) {
  std::size_t const r = blockIdx.x, b = rows.box[r];
  double sums[1] = {};
  auto const add = [&](stage_state const& s, float const* a) {
    for (std::size_t c = threadIdx.x; c < s.live_count; c += row_threads) {
      double const coefficient = std::fabs(a[r * s.live_count + c]);
      sums[0] += coefficient * s.spread[b * s.size + s.live[c]];
    }
    return s.live_count;
  };
  std::size_t terms = a_input == nullptr ? 0 : add(input, a_input);
  if (a_output != nullptr) terms += add(output, a_output);
  block_sums<row_threads>(sums);
  if (threadIdx.x != 0) return;
  double const distance = Outward ? sums[0] * (1 + gamma_sum(terms)) : sums[0];
  rows.bound[r] = down::sub(down::sub(rows.value[r], rows.slack[r]), distance);
}

/// Forms on their way to the device, with the rows that start from them. Optimised rows are thousands with few forms,
/// step after step, so a form travels once.
class form_list final {
 public:
  [[nodiscard]] std::size_t rows() const { return uses_.size(); }

  /// False if there is no room for the row; the list is sent then and cleared. Throws hull::error if there will never
  /// be.
  [[nodiscard]] bool add(row_form const& row) {
    known& last = known_[reinterpret_cast<std::uintptr_t>(row.form) / sizeof(linear_constraint) % known_.size()];
    std::size_t more = sizeof(form_use);
    if (last.form != row.form) {
      more += sizeof(form_header) + (row.form->outputs.size() + row.form->inputs.size()) * sizeof(form_term);
    }
    if (bytes() + more > device::mail_bytes) {
      expect(rows() > 0,
             "CUDA: a form has more than " + std::to_string(device::mail_bytes / sizeof(form_term)) + " terms");
      return false;
    }
    if (last.form != row.form) {
      last = {row.form, static_cast<index_t>(headers_.size())};
      append(*row.form);
    }
    uses_.push_back({row.box, last.number});
    return true;
  }

  /// Sends them to the mail, in one copy, and calls launch(headers, terms, uses).
  template <class Launch>
  void send(device const& at, Launch&& launch) const {
    std::byte* const staged = at.stage(bytes());
    std::size_t used = 0;
    auto const put = [&](auto const& list) {
      std::size_t const size = list.size() * sizeof(list[0]);
      if (size > 0) std::memcpy(staged + used, list.data(), size);
      used += size;
      return at.mail() + used - size;
    };
    auto* const headers = reinterpret_cast<form_header const*>(put(headers_));
    auto* const terms = reinterpret_cast<form_term const*>(put(terms_));
    auto* const uses = reinterpret_cast<form_use const*>(put(uses_));
    at.send(at.mail(), used);
    launch(headers, terms, uses);
  }

  void clear() {
    headers_.clear();
    terms_.clear();
    uses_.clear();
    known_.fill({});
  }

 private:
  struct known {  // a form that was added under this number
    linear_constraint const* form = nullptr;
    index_t number = 0;
  };

  [[nodiscard]] std::size_t bytes() const {
    return headers_.size() * sizeof(form_header) + terms_.size() * sizeof(form_term) + uses_.size() * sizeof(form_use);
  }

  void append(linear_constraint const& form) {
    headers_.push_back({form.constant, static_cast<index_t>(terms_.size()), static_cast<index_t>(form.outputs.size()),
                        static_cast<index_t>(form.inputs.size()), 0});
    for (auto const* part : {&form.outputs, &form.inputs}) {
      for (term const& t : *part) terms_.push_back({t.coefficient, static_cast<index_t>(t.index), 0});
    }
  }

  std::vector<form_header> headers_;
  std::vector<form_term> terms_;
  std::vector<form_use> uses_;
  std::array<known, 256> known_{};  // by address; a form that meets another one there travels again
};

/// Starts rows at the outputs, with coefficients a_output [rows, live], and at the inputs, with a_input (null: no terms
/// there). `additions`: how often the consumers of the input will round its coefficients. Forms travel in groups.
template <class R>
void seed_forms(device const& at, stage_state const& input, stage_state const& output, std::span<row_form const> forms,
                row_block const& rows, float* a_input, float* a_output, std::size_t additions) {
  form_list list;
  for (std::size_t first = 0; first < rows.count; first += list.rows()) {
    list.clear();
    while (first + list.rows() < rows.count && list.add(forms[first + list.rows()])) continue;
    list.send(at, [&](form_header const* headers, form_term const* terms, form_use const* uses) {
      seed_forms_kernel<R::outward><<<static_cast<unsigned>(list.rows()), row_threads, 0, at.stream()>>>(
          input, output, headers, terms, uses, rows, first, a_input, a_output, gamma(additions, unit_float));
    });
    check_launch("seed_forms");
  }
}

/// Bounds such rows by the intervals of both ends.
template <class R>
void bound_by_intervals(cudaStream_t stream, stage_state const& input, stage_state const& output, row_block const& rows,
                        float const* a_input, float const* a_output) {
  if (rows.count == 0) return;
  float const* const other = a_output == a_input ? nullptr : a_output;  // a network of one stage: the same buffer
  interval_rows_kernel<R::outward>
      <<<static_cast<unsigned>(rows.count), row_threads, 0, stream>>>(input, output, rows, a_input, other);
  check_launch("bound_by_intervals");
}

}  // namespace hull::cuda
