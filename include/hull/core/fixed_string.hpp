// SPDX-License-Identifier: Apache-2.0
// A string literal as a template argument: the name of a layer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace hull {

template <std::size_t N>
struct fixed_string final {
  char text[N]{};

  constexpr fixed_string(char const (&literal)[N]) { std::copy_n(literal, N, text); }  // implicit: Linear<"fc1", 256>

  [[nodiscard]] constexpr std::string_view view() const { return {text, N - 1}; }
  [[nodiscard]] friend constexpr bool operator==(fixed_string const&, fixed_string const&) = default;
};

}  // namespace hull
