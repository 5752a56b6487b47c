// SPDX-License-Identifier: Apache-2.0
// C = A W in single precision with a fixed order of summation for every element of C: it depends neither on the number
// of rows, nor on blocking or threads. That is what makes bounds equal to the bit for every chunk size, and it is why
// this is not a library's product: those choose kernels, and so orders, by the shape of the operands.
//
// One element is  sum over blocks of 32 terms of (chain of fused multiply-adds), blocks added in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <hull/backend/cpu/parallel.hpp>
#include <hull/backend/summation.hpp>

namespace hull::cpu {

inline constexpr std::size_t simd_bytes = __BIGGEST_ALIGNMENT__;  // 64 with AVX-512, 32 with AVX, else 16
inline constexpr std::size_t lanes = simd_bytes / sizeof(float);

// aligned(4): operands need no alignment
using vec [[gnu::vector_size(simd_bytes), gnu::aligned(4), gnu::may_alias]] = float;

inline constexpr std::size_t panel = 2 * lanes;                    // columns of a packed panel
inline constexpr std::size_t tile_rows = lanes == 16 ? 12 : 6;     // rows of a register tile
inline constexpr std::size_t block_terms = 256;                    // rows of W packed at a time, a multiple of `chain`
inline constexpr std::size_t block_columns = 512 / panel * panel;  // columns of W packed at a time
inline constexpr std::size_t block_floats = block_terms * block_columns;

/// Floats of a packed matrix of terms x columns.
[[nodiscard]] constexpr std::size_t packed_floats(std::size_t terms, std::size_t columns) {
  return terms * ((columns + panel - 1) / panel * panel);
}

/// Packs one panel: dst[k * panel + j] = element(k, first_column + j), zero beyond `columns`.
template <class Element>
void pack_panel(float* dst, std::size_t terms, std::size_t first_column, std::size_t columns, Element&& element) {
  std::size_t const width = std::min(panel, columns - first_column);
  for (std::size_t k = 0; k < terms; ++k, dst += panel) {
    for (std::size_t j = 0; j < width; ++j) dst[j] = element(k, first_column + j);
    for (std::size_t j = width; j < panel; ++j) dst[j] = 0;
  }
}

/// C (+)= A B on one register tile: A [tile_rows, terms] row major, B one packed panel.
inline void tile_product(float const* a, std::size_t lda, float const* b, std::size_t terms, float* c, std::size_t ldc,
                         bool overwrite) {
  for (std::size_t begin = 0; begin < terms; begin += chain_terms) {
    std::size_t const end = std::min(terms, begin + chain_terms);
    vec sum[tile_rows][2]{};
    for (std::size_t k = begin; k < end; ++k) {
      vec const b0 = *reinterpret_cast<vec const*>(b + k * panel);
      vec const b1 = *reinterpret_cast<vec const*>(b + k * panel + lanes);
#pragma GCC unroll 12
      for (std::size_t i = 0; i < tile_rows; ++i) {
        float const x = a[i * lda + k];
        sum[i][0] += x * b0;
        sum[i][1] += x * b1;
      }
    }
#pragma GCC unroll 12
    for (std::size_t i = 0; i < tile_rows; ++i) {
      vec* const out = reinterpret_cast<vec*>(c + i * ldc);
      if (overwrite && begin == 0) {
        out[0] = sum[i][0];
        out[1] = sum[i][1];
      } else {
        out[0] += sum[i][0];
        out[1] += sum[i][1];
      }
    }
  }
}

/// C [rows, columns] (+)= A [rows, terms] B, B packed as panels of `terms` rows. Runs on the calling thread.
inline void packed_product(float const* a, std::size_t lda, std::size_t rows, float const* b, std::size_t terms,
                           std::size_t columns, float* c, std::size_t ldc, bool overwrite) {
  alignas(64) float edge_a[tile_rows * block_terms];
  alignas(64) float edge_c[tile_rows * panel];
  for (std::size_t i = 0; i < rows; i += tile_rows) {
    std::size_t const height = std::min(tile_rows, rows - i);
    float const* tile_a = a + i * lda;
    std::size_t tile_lda = lda;
    if (height < tile_rows) {  // a part of a tile runs on a copy with zeros below
      std::memset(edge_a, 0, sizeof edge_a);
      for (std::size_t r = 0; r < height; ++r)
        std::memcpy(edge_a + r * block_terms, tile_a + r * lda, terms * sizeof(float));
      tile_a = edge_a;
      tile_lda = block_terms;
    }
    for (std::size_t j = 0; j < columns; j += panel) {
      std::size_t const width = std::min(panel, columns - j);
      float const* const tile_b = b + j * terms;
      float* const out = c + i * ldc + j;
      if (height == tile_rows && width == panel) {
        tile_product(tile_a, tile_lda, tile_b, terms, out, ldc, overwrite);
        continue;
      }
      std::memset(edge_c, 0, sizeof edge_c);
      for (std::size_t r = 0; !overwrite && r < height; ++r) {
        std::memcpy(edge_c + r * panel, out + r * ldc, width * sizeof(float));
      }
      tile_product(tile_a, tile_lda, tile_b, terms, edge_c, panel, overwrite);
      for (std::size_t r = 0; r < height; ++r) std::memcpy(out + r * ldc, edge_c + r * panel, width * sizeof(float));
    }
  }
}

/// C [rows, columns] (+)= A [rows, terms] W with W(k, j) = element(k, j), on all cores.
/// `scratch`: block_floats floats.
template <class Element>
void product(float const* a, std::size_t lda, std::size_t rows, std::size_t terms, std::size_t columns,
             Element&& element, float* c, std::size_t ldc, bool overwrite, float* scratch) {
  if (terms == 0 && overwrite) {
    for (std::size_t r = 0; r < rows; ++r) std::fill_n(c + r * ldc, columns, 0.0f);
    return;
  }
  for (std::size_t j = 0; j < columns; j += block_columns) {
    std::size_t const width = std::min(block_columns, columns - j);
    for (std::size_t k = 0; k < terms; k += block_terms) {
      std::size_t const depth = std::min(block_terms, terms - k);
      std::size_t const panels = (width + panel - 1) / panel;
      parallel_for(panels, depth * panel, [&](std::size_t p) {
        pack_panel(scratch + p * panel * depth, depth, p * panel, width,
                   [&](std::size_t term, std::size_t column) { return element(k + term, j + column); });
      });
      parallel_ranges(rows, tile_rows, depth * width, [&](std::size_t first, std::size_t last) {
        packed_product(a + first * lda + k, lda, last - first, scratch, depth, width, c + first * ldc + j, ldc,
                       overwrite && k == 0);
      });
    }
  }
}

}  // namespace hull::cpu
