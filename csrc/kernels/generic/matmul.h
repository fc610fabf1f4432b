// Products of packed weights with panels of activations, for every format and every
// instruction set: which tiles and rows the kernels of the other pages take together.
#pragma once

#include "kernels/generic/dequantized_product.h"
#include "kernels/generic/float_product.h"
#include "kernels/generic/integer_product.h"
#include "kernels/generic/wide_product.h"

namespace rwkvcpp::kernels {
namespace {

/// All tiles times all rows, a panel of rows at a time.
template <class S, class Product, std::size_t rows = S::kMaxRows>
void rows_of_tile(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
  for (; row + rows <= a.n_rows; row += rows) {
    Product::template tile_row<rows>(a, tile, row);
  }
  if constexpr (rows > 1) rows_of_tile<S, Product, rows / 2>(a, tile, row);
}

template <class S, class Product>
void matmul(const MatmulArgs& a) noexcept {
  for (std::size_t tile = 0; tile < a.n_tiles; ++tile) rows_of_tile<S, Product>(a, tile, 0);
}

/// Panels of `rows` from `row` on by the wide kernel, `panels` at a time; the next row. All
/// tiles meet a panel while it is in cache.
template <class Wide, std::size_t rows, std::size_t panels>
std::size_t wide_panels(const MatmulArgs& a, std::size_t n_tiles, std::size_t row) noexcept {
  for (; row + rows * panels <= a.n_rows; row += rows * panels) {
    for (std::size_t t = 0; t < n_tiles; t += Wide::kTiles) {
      Wide::template tile_rows<rows, panels>(a, t, row);
    }
  }
  return row;
}

/// The same by the wide kernel, but for the last few rows and an odd tile.
template <class S, class F>
void matmul_wide(const MatmulArgs& a) noexcept {
  using Wide = WideIntegerProduct<S, F>;
  constexpr std::size_t rows = S::kMaxRows;
  const std::size_t paired = a.n_tiles / Wide::kTiles * Wide::kTiles;
  std::size_t row = wide_panels<Wide, rows, 4>(a, paired, 0);
  row = wide_panels<Wide, rows, 1>(a, paired, row);
  row = wide_panels<Wide, rows / 2, 1>(a, paired, row);
  for (std::size_t t = 0; t < paired; ++t) rows_of_tile<S, IntegerProduct<S, F>>(a, t, row);
  for (std::size_t t = paired; t < a.n_tiles; ++t) {
    rows_of_tile<S, IntegerProduct<S, F>>(a, t, 0);
  }
}

/// Float weights: a single row of x takes several tiles at once, since one chain of
/// fused multiply-adds a tile would wait for each addition.
template <class S, class F>
void matmul_float_weights(const MatmulArgs& a) noexcept {
  using Product = FloatProduct<S, F>;
  constexpr std::size_t kTiles = 4;
  std::size_t tile = 0;
  if (a.n_rows == 1) {
    for (; tile + kTiles <= a.n_tiles; tile += kTiles) {
      Product::template tiles_of_one_row<kTiles>(a, tile);
    }
  }
  for (; tile < a.n_tiles; ++tile) rows_of_tile<S, Product>(a, tile, 0);
}

template <class S, class F>
void fill_matmul(KernelTable& table) noexcept {
  const auto type = static_cast<std::size_t>(F::kType);
  if constexpr (F::kIsFloat) {
    table.matmul[type] = matmul_float_weights<S, F>;
    table.matmul_float[type] = matmul_float_weights<S, F>;
  } else {
    if constexpr (S::kWide) {
      table.matmul[type] = matmul_wide<S, F>;
    } else {
      table.matmul[type] = matmul<S, IntegerProduct<S, F>>;
    }
    table.matmul_float[type] = matmul<S, DequantizedProduct<S, F>>;
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
