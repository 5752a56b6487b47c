// SPDX-License-Identifier: Apache-2.0
// The program of the three foreign projects: it compiles, links and runs with hull::hull alone.
#include <hull/core/error.hpp>
#include <hull/scalar/interval.hpp>

int main() {
  try {
    hull::expect(false, "consumer: a check that fails");
  } catch (hull::error const& caught) {
    return caught.kind() == hull::fault::input ? 0 : 1;
  }
  return 1;
}
