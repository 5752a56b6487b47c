// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

namespace hull::reference {

/// Whether tests leave out what launches the same kernels on the same shapes again: comparisons from run to run,
/// further numbers, further boxes. `tests/sanitize.sh --brief` sets HULL_TEST_BRIEF, for under a sanitizer launches are
/// slow.
[[nodiscard]] inline bool brief() { return std::getenv("HULL_TEST_BRIEF") != nullptr; }

}  // namespace hull::reference
