// SPDX-License-Identifier: Apache-2.0
// Bounds computed on the GPU: hull::cuda::bounder<net> bounds(numbers).
#pragma once

#include <hull/backend/cuda/machine.cuh>
#include <hull/propagate/bounder.hpp>

namespace hull::cuda {

/// Outward: sound for the exact network. Nearest: rounding ignored, for comparison with tools that ignore it. `P`: of
/// machine.
template <Network Net, class R = Outward, class P = Fp32>
using bounder = hull::bounder<Net, machine<Net, R, lone_member<Net>, P>>;

}  // namespace hull::cuda
