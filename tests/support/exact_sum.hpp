// SPDX-License-Identifier: Apache-2.0
// Sums of products of floating-point numbers without any rounding: one long fixed-point number.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace hull::reference {

__extension__ using int128 = __int128;
__extension__ using unsigned_int128 = unsigned __int128;

/// Holds any sum of up to 2^30 doubles and products of floats, from 2^-1152 to 2^1400.
class exact_sum final {
 public:
  exact_sum& add(double x) {
    int const e = exponent(x, 53);
    return add_integer(integer(x, e), e);
  }

  /// Adds a * b * c, each with at most 30 bits.
  exact_sum& add(double a, double b, double c = 1) {
    int const ea = exponent(a, 30), eb = exponent(b, 30), ec = exponent(c, 30);
    return add_integer(integer(a, ea) * integer(b, eb) * integer(c, ec), ea + eb + ec);
  }

  /// -1, 0 or 1
  [[nodiscard]] int sign() const {
    auto digits = digits_;
    std::int64_t carry = 0;
    bool any = false;
    for (auto& digit : digits) {
      digit += carry;
      carry = digit >> 32;  // rounds down, so the rest is never negative
      any = any || (digit & 0xffffffff) != 0;
    }
    return carry < 0 ? -1 : any || carry > 0 ? 1 : 0;
  }

  /// Whether the sum is at least `bound`; -infinity is below everything.
  [[nodiscard]] bool at_least(double bound) const {
    if (!std::isfinite(bound)) return bound < 0;
    exact_sum rest = *this;
    return rest.add(-bound).sign() >= 0;
  }

 private:
  static constexpr int lowest = -1152;

  static int exponent(double x, int bits) {
    int e = 0;
    std::frexp(x, &e);
    return e - bits;
  }
  static int128 integer(double x, int e) { return static_cast<int128>(std::ldexp(x, -e)); }

  exact_sum& add_integer(int128 value, int e) {
    if (value == 0) return *this;
    auto const at = static_cast<std::size_t>(e - lowest);
    bool const negative = value < 0;
    unsigned_int128 size = static_cast<unsigned_int128>(negative ? -value : value) << at % 32;  // at most 104 bits
    for (std::size_t i = at / 32; size != 0; ++i, size >>= 32) {
      auto const digit = static_cast<std::int64_t>(size & 0xffffffff);
      digits_[i] += negative ? -digit : digit;
    }
    return *this;
  }

  std::array<std::int64_t, 80> digits_{};  // base 2^32, carries not yet done
};

}  // namespace hull::reference
