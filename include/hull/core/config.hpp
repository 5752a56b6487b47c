// SPDX-License-Identifier: Apache-2.0
// The library's only public macro, and its version.
#pragma once

#include <string_view>

#ifdef __CUDACC__
/// Marks a function that runs on the host and on the device, from one body.
#define HULL_FN __host__ __device__
#else
#define HULL_FN
#endif

namespace hull {

/// Enters the key of the cache of compiled networks, so a new version never runs an old binary.
inline constexpr std::string_view version = "0.1.0";

}  // namespace hull
