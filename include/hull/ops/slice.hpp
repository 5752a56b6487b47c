// SPDX-License-Identifier: Apache-2.0
// Elements start, start + step, ... before end along one axis (ONNX Slice, Split, Gather of a range).
#pragma once

#include <hull/ops/head.hpp>

namespace hull {

template <std::size_t Axis, std::size_t Start, std::size_t End, std::size_t Step>
struct slice_t final {
  static constexpr std::string_view name = "Slice";
  using kind = sparse_head;
  static constexpr bool exact = true;

  template <extents In>
  static consteval extents output() {
    static_assert(Axis < In.rank, "hull: Slice along an axis that its operand does not have (docs/errors.md#slice)");
    static_assert(Start < End && End <= In[Axis] && Step > 0,
                  "hull: the range of this Slice is empty or leaves its operand (docs/errors.md#slice)");
    extents out = In;
    out.dims[Axis] = (End - Start + Step - 1) / Step;
    return out;
  }

  template <extents In>
  static constexpr std::size_t uses = 1;

  template <extents In, class F>
  HULL_FN static void terms(std::size_t k, F&& f) {
    constexpr std::size_t inner = In.stride(Axis), length = output<In>()[Axis];
    std::size_t const outer = k / (inner * length), at = k / inner % length;
    f(0, (outer * In[Axis] + Start + at * Step) * inner + k % inner, 1.0f);
  }
};

template <std::size_t Axis, std::size_t Start, std::size_t End, std::size_t Step = 1>
inline constexpr slice_t<Axis, Start, End, Step> Slice{};

}  // namespace hull
