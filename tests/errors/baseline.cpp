// expect: no error
// SPDX-License-Identifier: Apache-2.0
// If this file fails, the others in this folder may fail for the wrong reason.
#include <hull/core/config.hpp>
#include <hull/core/error.hpp>

static_assert(!hull::version.empty());
