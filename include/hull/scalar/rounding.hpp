// SPDX-License-Identifier: Apache-2.0
// Arithmetic whose direction is in its name: up::f never returns less than the exact result, down::f never more.
//
// On the device these are the hardware's directed instructions. On the host the rounding mode is left alone, which
// keeps the functions free of global state: a float operation is done in double and narrowed with a direction, a double
// operation is corrected by the sign of its exact rounding error. docs/soundness_scalar.md has the derivations.
//
// Float results are correctly rounded; so are double results, except that fma, and results near either end of
// the exponent range, may be one step further out. NaN stays NaN. A finite exact result beyond the largest number
// becomes infinite only on the side that is sound: up::add(max, max) is infinite, down::add(max, max) is max.
//
// Law: needs the default floating-point environment (round to nearest, subnormals kept), so no fast-math flags.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <hull/core/config.hpp>

#ifdef __FAST_MATH__
#error "hull: directed rounding is unsound under fast-math flags (docs/soundness_scalar.md)"
#endif

namespace hull {

/// Bounds hold for the exact real-valued network with the given float parameters.
struct Outward final {
  static constexpr bool outward = true;
  static constexpr std::string_view name = "outward";
};

/// Rounding errors of the bounds themselves are ignored.
struct Nearest final {
  static constexpr bool outward = false;
  static constexpr std::string_view name = "nearest";
};

/// What propagation does about its own rounding errors.
template <class R>
concept Rounding = requires {
  { R::outward } -> std::convertible_to<bool>;
  { R::name } -> std::convertible_to<std::string_view>;
};
static_assert(Rounding<Outward> && Rounding<Nearest>);

namespace detail {

/// The number after x in the direction of +infinity.
template <std::floating_point T>
HULL_FN constexpr T next_up(T x) {
  using bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  if (!(x < std::numeric_limits<T>::infinity())) return x;  // +infinity and NaN
  if (x == 0) return std::numeric_limits<T>::denorm_min();
  return std::bit_cast<T>(static_cast<bits>(std::bit_cast<bits>(x) + (x > 0 ? 1 : -1)));
}

/// Below this the error of a double product or quotient may itself underflow; 2^-960 leaves the 106 bits it needs.
inline constexpr double exact_error_floor = 0x1p-960;

// The host's half of up::. The other direction is the mirror image: down(a + b) = -up(-a - b).

/// The rounding error of sum = fl(a + b), exact unless something overflows; then NaN or 0 (Knuth's two-sum).
inline double sum_error(double a, double b, double sum) {
  double const b_part = sum - a;
  double const a_part = sum - b_part;
  return (a - a_part) + (b - b_part);
}

inline float narrow_up(double x) {
  float const near = static_cast<float>(x);
  return static_cast<double>(near) < x ? next_up(near) : near;
}

inline double add_up(double a, double b) {
  double const sum = a + b;
  double const infinity = std::numeric_limits<double>::infinity();
  double const huge = 0x1p1022;  // beyond it two-sum's inner differences may overflow
  if (std::fabs(sum) > huge || std::fabs(a) > huge || std::fabs(b) > huge) {
    bool const exact = std::fabs(a) == infinity || std::fabs(b) == infinity;
    return exact ? sum : next_up(sum);
  }
  return sum_error(a, b, sum) > 0 ? next_up(sum) : sum;
}

inline double mul_up(double a, double b) {
  double const product = a * b;
  if (std::fabs(product) < exact_error_floor) return a == 0 || b == 0 ? product : next_up(product);
  return std::fma(a, b, -product) > 0 ? next_up(product) : product;
}

inline double div_up(double a, double b) {
  double const quotient = a / b;
  if (std::fabs(a) < exact_error_floor || std::fabs(quotient) < exact_error_floor) {
    bool const exact = a == 0 || b == 0 || std::fabs(b) == std::numeric_limits<double>::infinity();
    return exact ? quotient : next_up(quotient);
  }
  double const rest = std::fma(-quotient, b, a);  // a - quotient * b, exactly
  return (b > 0 ? rest > 0 : rest < 0) ? next_up(quotient) : quotient;
}

inline double fma_up(double a, double b, double c) {
  if (a == 0 || b == 0) return a * b + c;  // exact, and NaN for 0 * infinity
  if (c == 0) return mul_up(a, b);
  return next_up(std::fma(a, b, c));
}

/// The root, or its neighbour on the given side when the rounding error has the sign that asks for it.
inline double sqrt_up(double x) {
  double const root = std::sqrt(x);
  if (x < exact_error_floor) return x == 0 ? root : next_up(root);
  return std::fma(-root, root, x) > 0 ? next_up(root) : root;
}

inline double sqrt_down(double x) {
  double const root = std::sqrt(x);
  if (x < exact_error_floor) return x == 0 ? root : -next_up(-root);
  return std::fma(-root, root, x) < 0 ? -next_up(-root) : root;
}

// Floats. A product of floats is exact in double; a quotient or root is either a float or further from every float
// than double's rounding error; a sum needs its error folded in before it is narrowed.
inline float add_up(float a, float b) { return narrow_up(add_up(static_cast<double>(a), static_cast<double>(b))); }
inline float mul_up(float a, float b) { return narrow_up(static_cast<double>(a) * static_cast<double>(b)); }
inline float div_up(float a, float b) { return narrow_up(static_cast<double>(a) / static_cast<double>(b)); }
inline float sqrt_up(float x) { return narrow_up(std::sqrt(static_cast<double>(x))); }
inline float sqrt_down(float x) { return -narrow_up(-std::sqrt(static_cast<double>(x))); }
inline float fma_up(float a, float b, float c) {
  return narrow_up(add_up(static_cast<double>(a) * static_cast<double>(b), static_cast<double>(c)));
}

}  // namespace detail

/// Results are the exact ones or more.
namespace up {

/// The number after x; +infinity and NaN stay.
HULL_FN constexpr float next(float x) { return detail::next_up(x); }
HULL_FN constexpr double next(double x) { return detail::next_up(x); }

/// The least float that is not below x.
HULL_FN inline float from_double(double x) {
#ifdef __CUDA_ARCH__
  return __double2float_ru(x);
#else
  return detail::narrow_up(x);
#endif
}

HULL_FN inline float add(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_ru(a, b);
#else
  return detail::add_up(a, b);
#endif
}
HULL_FN inline double add(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dadd_ru(a, b);
#else
  return detail::add_up(a, b);
#endif
}

HULL_FN inline float sub(float a, float b) { return add(a, -b); }
HULL_FN inline double sub(double a, double b) { return add(a, -b); }

HULL_FN inline float mul(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_ru(a, b);
#else
  return detail::mul_up(a, b);
#endif
}
HULL_FN inline double mul(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_ru(a, b);
#else
  return detail::mul_up(a, b);
#endif
}

HULL_FN inline float div(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdiv_ru(a, b);
#else
  return detail::div_up(a, b);
#endif
}
HULL_FN inline double div(double a, double b) {
#ifdef __CUDA_ARCH__
  return __ddiv_ru(a, b);
#else
  return detail::div_up(a, b);
#endif
}

/// a * b + c with one rounding.
HULL_FN inline float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_ru(a, b, c);
#else
  return detail::fma_up(a, b, c);
#endif
}
HULL_FN inline double fma(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_ru(a, b, c);
#else
  return detail::fma_up(a, b, c);
#endif
}

HULL_FN inline float sqrt(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_ru(x);
#else
  return detail::sqrt_up(x);
#endif
}
HULL_FN inline double sqrt(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_ru(x);
#else
  return detail::sqrt_up(x);
#endif
}

}  // namespace up

/// Results are the exact ones or less.
namespace down {

/// The number before x; -infinity and NaN stay.
HULL_FN constexpr float next(float x) { return -detail::next_up(-x); }
HULL_FN constexpr double next(double x) { return -detail::next_up(-x); }

/// The greatest float that is not above x.
HULL_FN inline float from_double(double x) {
#ifdef __CUDA_ARCH__
  return __double2float_rd(x);
#else
  return -detail::narrow_up(-x);
#endif
}

HULL_FN inline float add(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rd(a, b);
#else
  return -detail::add_up(-a, -b);
#endif
}
HULL_FN inline double add(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dadd_rd(a, b);
#else
  return -detail::add_up(-a, -b);
#endif
}

HULL_FN inline float sub(float a, float b) { return add(a, -b); }
HULL_FN inline double sub(double a, double b) { return add(a, -b); }

HULL_FN inline float mul(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rd(a, b);
#else
  return -detail::mul_up(-a, b);
#endif
}
HULL_FN inline double mul(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rd(a, b);
#else
  return -detail::mul_up(-a, b);
#endif
}

HULL_FN inline float div(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdiv_rd(a, b);
#else
  return -detail::div_up(-a, b);
#endif
}
HULL_FN inline double div(double a, double b) {
#ifdef __CUDA_ARCH__
  return __ddiv_rd(a, b);
#else
  return -detail::div_up(-a, b);
#endif
}

/// a * b + c with one rounding.
HULL_FN inline float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rd(a, b, c);
#else
  return -detail::fma_up(-a, b, -c);
#endif
}
HULL_FN inline double fma(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rd(a, b, c);
#else
  return -detail::fma_up(-a, b, -c);
#endif
}

HULL_FN inline float sqrt(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rd(x);
#else
  return detail::sqrt_down(x);
#endif
}
HULL_FN inline double sqrt(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rd(x);
#else
  return detail::sqrt_down(x);
#endif
}

}  // namespace down

/// Rounded on its own: device compilers do not fuse it with a sum that follows, so hosts and devices can agree.
HULL_FN inline float mul_nearest(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

}  // namespace hull
