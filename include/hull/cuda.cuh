// SPDX-License-Identifier: Apache-2.0
// hull.hpp, and bounds on the GPU. Needs nvcc; see docs/cuda.md.
#pragma once

#include <hull/backend/cuda/backend.cuh>
#include <hull/backend/cuda/bounder.cuh>
#include <hull/backend/cuda/verifier.cuh>
#include <hull/hull.hpp>
