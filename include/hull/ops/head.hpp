// SPDX-License-Identifier: Apache-2.0
// What an operator that is not pointwise states about itself: which kind of kernel it runs on, its output's shape,
// its parameters. A stage begins with one such operator, its head.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include <hull/core/extents.hpp>

namespace hull {

/// One tensor of a head's parameters; the full key is "<layer name>.<name>".
struct parameter_tensor {
  std::string_view name;
  std::size_t count;
};

// The kinds of heads. An operator names its kind as `using kind = ...;`; a backend has one kernel set per kind.
struct input_head {};   ///< the box itself
struct linear_head {};  ///< y = W x + b, W dense
struct conv_head {};    ///< y = W * x + b, W a bank of filters
struct sparse_head {};  ///< y_k = a short sum of inputs with fixed coefficients: `terms` lists them
struct max_head {};     ///< y_k = the largest of a window of inputs: `window` lists them
struct view_head {};    ///< the same numbers in another shape: no stage of its own

template <class Op, class Kind>
concept HeadOf = std::is_same_v<typename Op::kind, Kind>;

template <class Op>
concept Head = requires {
  typename Op::kind;
};

}  // namespace hull
