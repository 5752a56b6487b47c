// SPDX-License-Identifier: Apache-2.0
// Bounds computed on the GPU: hull::cuda::bounder<net> bounds(numbers).
#pragma once

#include <hull/backend/cuda/machine.cuh>
#include <hull/propagate/bounder.hpp>

namespace hull::cuda {

/// Outward: sound for the exact network. Nearest: rounding ignored, for comparison with tools that ignore it.
template <Network Net, class R = Outward>
using bounder = hull::bounder<Net, machine<Net, R>>;

}  // namespace hull::cuda
