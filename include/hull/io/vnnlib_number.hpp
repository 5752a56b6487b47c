// SPDX-License-Identifier: Apache-2.0
// Decimal numbers of a file, enclosed between two doubles, and the little arithmetic that specifications do on them.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <compare>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <hull/scalar/rounding.hpp>

namespace hull::io::vnnlib {

/// A real number known to lie in [lower, upper]. `nearest` is what ordinary arithmetic makes of it.
struct enclosed {
  double lower = 0;
  double nearest = 0;
  double upper = 0;
};

[[nodiscard]] inline enclosed exactly(double value) { return {value, value, value}; }

/// False if an operation overflowed on the way.
[[nodiscard]] inline bool is_finite(enclosed const& a) {
  return std::isfinite(a.lower) && std::isfinite(a.nearest) && std::isfinite(a.upper);
}

[[nodiscard]] inline enclosed negate(enclosed const& a) { return {-a.upper, -a.nearest, -a.lower}; }

[[nodiscard]] inline enclosed add(enclosed const& a, enclosed const& b) {
  return {down::add(a.lower, b.lower), a.nearest + b.nearest, up::add(a.upper, b.upper)};
}

[[nodiscard]] inline bool is_point(enclosed const& a) { return a.lower == a.upper; }

[[nodiscard]] inline enclosed multiply(enclosed const& a, enclosed const& b) {
  if (is_point(a) && is_point(b)) {  // the usual case, a quarter of the work
    return {down::mul(a.lower, b.lower), a.nearest * b.nearest, up::mul(a.upper, b.upper)};
  }
  return {std::min({down::mul(a.lower, b.lower), down::mul(a.lower, b.upper), down::mul(a.upper, b.lower),
                    down::mul(a.upper, b.upper)}),
          a.nearest * b.nearest,
          std::max({up::mul(a.lower, b.lower), up::mul(a.lower, b.upper), up::mul(a.upper, b.lower),
                    up::mul(a.upper, b.upper)})};
}

/// Requires that b does not contain zero.
[[nodiscard]] inline enclosed divide(enclosed const& a, enclosed const& b) {
  if (b.lower == 1 && b.upper == 1) return a;  // exact for subnormal numbers too
  if (b.lower == -1 && b.upper == -1) return negate(a);
  return {std::min({down::div(a.lower, b.lower), down::div(a.lower, b.upper), down::div(a.upper, b.lower),
                    down::div(a.upper, b.upper)}),
          a.nearest / b.nearest,
          std::max({up::div(a.lower, b.lower), up::div(a.lower, b.upper), up::div(a.upper, b.lower),
                    up::div(a.upper, b.upper)})};
}

/// The magnitude 0.d1d2d3... * 10^exponent, with neither leading nor trailing zeros; no digits at all for zero.
struct decimal {
  std::string digits;
  long exponent = 0;

  friend std::strong_ordering operator<=>(decimal const& a, decimal const& b) {
    if (a.digits.empty() || b.digits.empty()) return a.digits.size() <=> b.digits.size();
    if (a.exponent != b.exponent) return a.exponent <=> b.exponent;
    return a.digits.compare(b.digits) <=> 0;
  }
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Reads digits [. digits] [e [sign] digits] without a sign in front; nothing if `text` is anything else.
inline std::optional<decimal> read_decimal(std::string_view text) {
  decimal result;
  std::size_t at = 0;
  std::size_t seen = 0;
  bool fraction = false;
  for (; at < text.size(); ++at) {
    if (text[at] == '.' && !fraction) {
      fraction = true;
    } else if (is_digit(text[at])) {
      ++seen;
      if (result.digits.empty() && text[at] == '0') {
        result.exponent -= fraction;
      } else {
        result.digits += text[at];
        result.exponent += !fraction;
      }
    } else {
      break;
    }
  }
  if (seen == 0) return {};
  if (at < text.size()) {
    if (text[at] != 'e' && text[at] != 'E') return {};
    ++at;
    bool const negative = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    if (at == text.size()) return {};
    long exponent = 0;
    for (; at < text.size(); ++at) {
      if (!is_digit(text[at])) return {};
      exponent = std::min(exponent * 10 + (text[at] - '0'), 1'000'000L);  // far beyond any double
    }
    result.exponent += negative ? -exponent : exponent;
  }
  while (!result.digits.empty() && result.digits.back() == '0') result.digits.pop_back();
  return result;
}

/// `value` > 0 as a decimal, rounded to `count` digits.
inline decimal to_decimal(double value, std::size_t count) {
  std::string text(count + 16, '\0');
  auto const written = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::scientific,
                                     static_cast<int>(count) - 1);
  return *read_decimal(std::string_view(text.data(), written.ptr));
}

/// Compares without any error. Rounding to more digits than `text` has cannot pass over it; only where that ends in a
/// tie are all digits of the double needed: one for each of its binary places behind the point, and those before it.
inline std::strong_ordering compare(double value, decimal const& text) {
  if (value == 0 || text.digits.empty()) return (value > 0) <=> !text.digits.empty();
  auto const order = to_decimal(value, text.digits.size() + 3) <=> text;
  if (order != 0) return order;
  int exponent = 0;
  std::frexp(value, &exponent);
  auto const all_digits = 1 + std::max(53 - exponent, 0) + std::max(text.exponent, 0L);
  return to_decimal(value, static_cast<std::size_t>(all_digits)) <=> text;
}

/// What a decimal numeral says.
struct numeral {
  enum class state { good, malformed, too_large } state = state::malformed;
  enclosed value;
};

/// The number that `text` spells, "-0.5", "1e-3", ".5" or "+2.", enclosed as tightly as doubles can: exactly if one
/// holds it, else by two neighbours. Independent of locale and rounding mode. Cost: linear in its length.
[[nodiscard]] inline numeral read_numeral(std::string_view text) {
  bool const negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  auto const digits = read_decimal(text);
  if (!digits) return {numeral::state::malformed, {}};
  if (digits->digits.empty()) return {numeral::state::good, {}};

  numeral const too_large{numeral::state::too_large, {}};
  double value = 0;
  if (digits->exponent > 310) return too_large;
  if (digits->exponent > -324) {  // below, the nearest double is zero
    auto const parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || !std::isfinite(value)) return too_large;
  }
  enclosed magnitude = exactly(value);
  auto const order = compare(value, *digits);
  if (order > 0) magnitude.lower = down::next(value);
  if (order < 0) magnitude.upper = up::next(value);
  if (!is_finite(magnitude)) return too_large;
  return {numeral::state::good, negative ? negate(magnitude) : magnitude};
}

}  // namespace hull::io::vnnlib
