// SPDX-License-Identifier: Apache-2.0
// What an operator states about itself. Propagation and backends are generic over these concepts.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>

#include <hull/core/config.hpp>
#include <hull/relax/lines.hpp>
#include <hull/scalar/interval.hpp>

namespace hull {

/// How many numbers a parameter of a pointwise operator has.
enum class per {
  layer,    // one
  channel,  // one for each index of the first dimension of the input
  element,  // one for each element of the input
};

/// One parameter of a pointwise operator; the full key is "<layer name>.<name>".
struct pointwise_parameter {
  std::string_view name;
  per extent = per::element;
};

/// The scalar function that a pointwise operator applies to one element, its parameters bound.
///   eval       the function itself, in float or double, rounded to nearest
///   image      encloses { f(t) : t in box }
///   relax      lines that bracket f on box; box may be a point, huge or tiny, but is finite with lower <= upper
///   linear_on  f is relaxed without loss on box: tighter bounds of t would not help
template <class F>
concept PointwiseFunction = requires(F const f, float x, double z, interval<float> box) {
  { f.eval(x) } -> std::same_as<float>;
  { f.eval(z) } -> std::same_as<double>;
  { f.image(box) } -> std::same_as<interval<float>>;
  { f.relax(box) } -> std::same_as<lines<float>>;
  { f.linear_on(box) } -> std::same_as<bool>;
};

/// Optional: f is linear on each side of zero. On a box that straddles zero two pairs of lines bracket f, and so does
/// every mean of the two pairs; optimised bounds choose one for each row, and branch and bound splits at zero.
template <class F>
concept Kinked = PointwiseFunction<F> && requires(F const f, interval<float> box) {
  { f.free_lines(box) } -> std::same_as<std::array<lines<float>, 2>>;
};

/// An operator on single elements: `element` is its scalar function, an aggregate of floats in the order of
/// `parameters`.
template <class Op>
concept Pointwise = PointwiseFunction<typename Op::element> && requires {
  { Op::name } -> std::convertible_to<std::string_view>;
  { Op::parameters.size() } -> std::convertible_to<std::size_t>;
};

/// For operators without parameters.
inline constexpr std::array<pointwise_parameter, 0> no_parameters{};

}  // namespace hull
