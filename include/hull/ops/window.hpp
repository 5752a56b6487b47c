// SPDX-License-Identifier: Apache-2.0
// Sliding windows over [channels, height, width]: kernel, stride, padding, dilation of Conv and the pools.
#pragma once

#include <cstddef>
#include <type_traits>

#include <hull/core/config.hpp>
#include <hull/core/extents.hpp>

namespace hull {

// Options of windowed operators, in any order: Conv<"c", 16, kernel<3, 3>, stride<2, 2>, pad<1, 1, 1, 1>>.
template <std::size_t Height, std::size_t Width>
struct kernel {};
template <std::size_t Height, std::size_t Width>
struct stride {};
template <std::size_t Top, std::size_t Left, std::size_t Bottom, std::size_t Right>
struct pad {};
template <std::size_t Height, std::size_t Width>
struct dilation {};
template <std::size_t Count>
struct groups {};
struct exclude_pad {};  ///< AveragePool divides by the number of elements inside the input

/// All options as numbers.
struct window final {
  std::size_t kernel_h = 1, kernel_w = 1;
  std::size_t stride_h = 1, stride_w = 1;
  std::size_t top = 0, left = 0, bottom = 0, right = 0;
  std::size_t dilation_h = 1, dilation_w = 1;
  std::size_t groups = 1;
  bool count_pad = true;

  template <std::size_t H, std::size_t W>
  constexpr void set(kernel<H, W>) {
    kernel_h = H, kernel_w = W;
  }
  template <std::size_t H, std::size_t W>
  constexpr void set(stride<H, W>) {
    stride_h = H, stride_w = W;
  }
  template <std::size_t T, std::size_t L, std::size_t B, std::size_t R>
  constexpr void set(pad<T, L, B, R>) {
    top = T, left = L, bottom = B, right = R;
  }
  template <std::size_t H, std::size_t W>
  constexpr void set(dilation<H, W>) {
    dilation_h = H, dilation_w = W;
  }
  template <std::size_t G>
  constexpr void set(hull::groups<G>) {
    groups = G;
  }
  constexpr void set(exclude_pad) { count_pad = false; }

  [[nodiscard]] HULL_FN constexpr std::size_t span_h() const { return (kernel_h - 1) * dilation_h + 1; }
  [[nodiscard]] HULL_FN constexpr std::size_t span_w() const { return (kernel_w - 1) * dilation_w + 1; }
  [[nodiscard]] HULL_FN constexpr std::size_t area() const { return kernel_h * kernel_w; }

  /// The window has at least one place on an input of this height and width.
  [[nodiscard]] constexpr bool fits(extents in) const {
    return in[1] + top + bottom >= span_h() && in[2] + left + right >= span_w();
  }
  [[nodiscard]] constexpr std::size_t out_h(extents in) const {
    return (in[1] + top + bottom - span_h()) / stride_h + 1;
  }
  [[nodiscard]] constexpr std::size_t out_w(extents in) const {
    return (in[2] + left + right - span_w()) / stride_w + 1;
  }

  /// Every place of the window covers at least one input element. Dilation can step over a small input.
  [[nodiscard]] constexpr bool touches(extents in) const {
    auto const along = [](std::size_t places, std::size_t step, std::size_t taps, std::size_t gap, std::size_t before,
                          std::size_t length) {
      for (std::size_t i = 0; i < places; ++i) {
        bool any = false;
        for (std::size_t a = 0; a < taps; ++a) {
          std::size_t const at = i * step + a * gap;
          any = any || (at >= before && at - before < length);
        }
        if (!any) return false;
      }
      return true;
    };
    return along(out_h(in), stride_h, kernel_h, dilation_h, top, in[1]) &&
           along(out_w(in), stride_w, kernel_w, dilation_w, left, in[2]);
  }

  /// No input element is covered by more places of the window than this.
  [[nodiscard]] constexpr std::size_t overlap() const { return area(); }
  [[nodiscard]] constexpr bool valid() const {
    return kernel_h > 0 && kernel_w > 0 && stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0 &&
           groups > 0;
  }

  /// Calls f(y, x) for every input position inside the input that the window at output (i, j) covers.
  template <class F>
  HULL_FN constexpr void covered(extents in, std::size_t i, std::size_t j, F&& f) const {
    for (std::size_t a = 0; a < kernel_h; ++a) {
      std::size_t const y = i * stride_h + a * dilation_h;  // shifted by top
      if (y < top || y - top >= in[1]) continue;
      for (std::size_t b = 0; b < kernel_w; ++b) {
        std::size_t const x = j * stride_w + b * dilation_w;
        if (x < left || x - left >= in[2]) continue;
        f(y - top, x - left);
      }
    }
  }

  [[nodiscard]] friend constexpr bool operator==(window const&, window const&) = default;
};

template <class... Options>
[[nodiscard]] constexpr window make_window() {
  window w;
  (w.set(Options{}), ...);
  return w;
}

}  // namespace hull
