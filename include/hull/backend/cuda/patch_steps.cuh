// SPDX-License-Identifier: Apache-2.0
// The step of rows that are patches: from the output of a stage with a Conv head to the output of its operand.
#pragma once

#include <cstddef>

#include <hull/backend/cuda/conv_patch.cuh>
#include <hull/backend/cuda/device.cuh>
#include <hull/backend/cuda/patch_input.cuh>
#include <hull/backend/cuda/patch_plan.cuh>
#include <hull/backend/cuda/patch_product.cuh>

namespace hull::cuda {

/// Between the patches of rows at the head of stage S and those of its operand. `largest`: at least the largest
/// weight's magnitude, for halfs.
template <class S>
[[nodiscard]] patch_step patch_step_of(conv_weights const& w, std::size_t start, bool transposed, float largest) {
  auto const& of_start = patches<typename S::net>[start];
  patch const &head = of_start[S::number], &operand = of_start[S::template input<0>];
  patch_step step;
  step.conv = make_conv_plan(w.in, w.out, w.filter, transposed);
  step.from = transposed ? head : operand;
  step.to = transposed ? operand : head;
  step.by_source = divisor(step.conv.source_padded());
  step.by_down = divisor(step.conv.down.stride), step.by_across = divisor(step.conv.across.stride);
  step.weight_scale = scale_of(largest);
  return step;
}

/// Rows that start at the head of stage `rows.start`, from the output of stage S, where they are patches, to that of
/// its operand `x`, where they are patches or dense. `scratch`: patch_scratch_floats of the start. `largest`: at least
/// the largest weight's magnitude, for halfs.
template <class S, class R, conv_numbers Numbers>
void patch_back(cudaStream_t stream, device const& on, conv_weights const& w, row_block const& rows,
                stage_state const& y, float* a_y, stage_state const& x, float* a_x, std::size_t boxes, float* scratch,
                float largest) {
  if (rows.count == 0) return;
  patch_step const step = patch_step_of<S>(w, rows.start, true, largest);
  patch_line const* const lines = patch_lines(stream, step.from, y, boxes, scratch);
  if (step.to.summed) return patch_input<R, Numbers>(stream, step, w.weight, rows, y, lines, a_y, x);
  float* const packed = scratch + step.from.line_floats(boxes);
  patch_relax<R, Numbers>(stream, step.from, rows, y, lines, a_y);
  if (!step.to.kept) on.clear(a_x, rows.count * x.live_count);
  patch_product<Numbers>(stream, step, w.weight, rows, a_y, packed, x, a_x);
}

}  // namespace hull::cuda
