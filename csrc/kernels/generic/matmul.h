// Products of packed weights with rows of activations, for every format and
// every instruction set.
//
// The unit of work is one tile row: 16 outputs times up to S::kMaxRows rows of x.
// It walks the block columns in order, keeps one float sum per output, and decodes
// each block's codes once for all rows:
//   sum = fma(float(integer sum) * weight scale, activation scale, sum)
//   sum = fma(weight minimum, activation scale * sum of codes, sum)
// Registers narrower than a tile hold it in parts; each part is S::kLanes outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
inline constexpr std::size_t kParts = kTileRows / S::kLanes;

/// Sums of one tile row: [part][row of x].
template <class S, std::size_t rows>
struct Sums {
  typename S::F values[kParts<S>][rows];

  void clear() noexcept {
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 16
      for (std::size_t r = 0; r < rows; ++r) values[p][r] = S::set(0.0f);
    }
  }
  void store(const MatmulArgs& a, std::size_t tile, std::size_t row) const noexcept {
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 16
      for (std::size_t r = 0; r < rows; ++r) {
        S::store(a.y + (row + r) * a.y_stride + tile * kTileRows + p * S::kLanes, values[p][r]);
      }
    }
  }
};

inline const float* x_row(const MatmulArgs& a, std::size_t row) noexcept {
  return static_cast<const float*>(a.x) + row * a.x_stride;
}

/// One block's exact integer sum for S::kLanes outputs.
template <class S, class F>
typename S::I block_sum(const typename F::Tile& tile, std::size_t sub, std::size_t lane,
                        const typename S::Bytes (&codes)[8], const ActivationBlock& x) noexcept {
  if constexpr (F::kSigned) {
    return S::template dot_signed<8>(codes, x.values, x.sum);
  } else if constexpr (F::kHalfScales) {
    const auto first =
        S::template dot<F::kMaxCode, 4>(S::set_int(-F::kOffset * x.half_sum[0]), codes, x.values);
    const auto last = S::template dot<F::kMaxCode, 4>(S::set_int(-F::kOffset * x.half_sum[1]),
                                                      codes + 4, x.values + 16);
    return S::add(S::mul(first, F::template sub_scales<S>(tile, sub, 0, lane)),
                  S::mul(last, F::template sub_scales<S>(tile, sub, 1, lane)));
  } else {
    return S::template dot<F::kMaxCode, 8>(S::set_int(-F::kOffset * x.sum), codes, x.values);
  }
}

/// Adds one block column of a tile to S::kLanes outputs of `rows` rows.
template <class S, class F, std::size_t rows>
void add_block(const typename F::Tile& tile, std::size_t sub, std::size_t lane,
               const ActivationBlock* x, typename S::F (&sums)[rows]) noexcept {
  typename S::Bytes codes[8];
  F::template codes<S>(tile, sub, lane, codes);
  const auto scales = F::template scales<S>(tile, lane);
#pragma GCC unroll 16
  for (std::size_t r = 0; r < rows; ++r) {
    const auto sum = S::to_float(block_sum<S, F>(tile, sub, lane, codes, x[r]));
    sums[r] = S::fma(S::mul(sum, scales), S::set(x[r].scale), sums[r]);
  }
  if constexpr (F::kHasMinimum) {
    const auto minimums = F::template minimums<S>(tile, lane);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] = S::fma(minimums, S::set(x[r].scaled_sum), sums[r]);
    }
  }
}

/// Block weights, int8 activations.
template <class S, class F>
struct IntegerProduct {
  template <std::size_t rows>
  static void tile_row(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
    const auto* tiles = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const std::size_t n_blocks = a.n_units * F::kSubBlocks;
    const auto* x = static_cast<const ActivationBlock*>(a.x) + row * n_blocks;
    Sums<S, rows> sums;
    sums.clear();
    for (std::size_t unit = 0; unit < a.n_units; ++unit) {
      for (std::size_t sub = 0; sub < F::kSubBlocks; ++sub, x += rows) {
#pragma GCC unroll 4
        for (std::size_t p = 0; p < kParts<S>; ++p) {
          add_block<S, F, rows>(tiles[unit], sub, p * S::kLanes, x, sums.values[p]);
        }
      }
    }
    sums.store(a, tile, row);
  }
};

/// Float weights, float activations: inputs in order, one chain per output.
template <class S, class F>
struct FloatProduct {
  template <std::size_t rows>
  static void tile_row(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
    const auto* tiles = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const float* x[rows];
    for (std::size_t r = 0; r < rows; ++r) x[r] = x_row(a, row + r);
    Sums<S, rows> sums;
    sums.clear();
    for (std::size_t i = 0; i < a.n_units; ++i) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < kParts<S>; ++p) {
        const auto weights = F::template weights<S>(tiles[i], p * S::kLanes);
#pragma GCC unroll 16
        for (std::size_t r = 0; r < rows; ++r) {
          sums.values[p][r] = S::fma(weights, S::set(x[r][i]), sums.values[p][r]);
        }
      }
    }
    sums.store(a, tile, row);
  }
};

/// The code of input `i` of a group of four, one per output, as a float.
template <class S, class F, int i>
typename S::F code_value(typename S::Bytes group) noexcept {
  const auto word = S::bytes_as_int(group);
  if constexpr (F::kSigned) {
    return S::to_float(S::template shift_right<24>(S::template shift_left<24 - 8 * i>(word)));
  } else {
    const auto code = S::bit_and(S::template shift_right<8 * i>(word), S::set_int(0xFF));
    return S::to_float(S::sub(code, S::set_int(F::kOffset)));
  }
}

/// Block weights, float activations: for measuring quality. Weights take the
/// value that dequantize() gives them, then sum as float weights do.
template <class S, class F>
struct DequantizedProduct {
  template <std::size_t rows>
  static void tile_row(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
    const auto* tiles = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const float* x[rows];
    for (std::size_t r = 0; r < rows; ++r) x[r] = x_row(a, row + r);
    Sums<S, rows> sums;
    sums.clear();
    for (std::size_t unit = 0; unit < a.n_units; ++unit) {
      for (std::size_t sub = 0; sub < F::kSubBlocks; ++sub) {
        for (std::size_t p = 0; p < kParts<S>; ++p) {
          add_block<rows>(tiles[unit], sub, p * S::kLanes, x, sums.values[p]);
        }
        for (std::size_t r = 0; r < rows; ++r) x[r] += kBlock;
      }
    }
    sums.store(a, tile, row);
  }

 private:
  template <std::size_t rows>
  static void add_block(const typename F::Tile& tile, std::size_t sub, std::size_t lane,
                        const float* const (&x)[rows], typename S::F (&sums)[rows]) noexcept {
    typename S::Bytes codes[8];
    F::template codes<S>(tile, sub, lane, codes);
    for (std::size_t g = 0; g < 8; ++g) {
      const auto step = weight_step(tile, sub, g / 4, lane);
      add_input<rows, 0>(tile, lane, step, codes[g], 4 * g, x, sums);
      add_input<rows, 1>(tile, lane, step, codes[g], 4 * g, x, sums);
      add_input<rows, 2>(tile, lane, step, codes[g], 4 * g, x, sums);
      add_input<rows, 3>(tile, lane, step, codes[g], 4 * g, x, sums);
    }
  }

  static typename S::F weight_step(const typename F::Tile& tile, std::size_t sub, std::size_t half,
                                   std::size_t lane) noexcept {
    const auto scales = F::template scales<S>(tile, lane);
    if constexpr (F::kHalfScales) {
      return S::mul(scales, S::to_float(F::template sub_scales<S>(tile, sub, half, lane)));
    } else {
      return scales;
    }
  }

  template <std::size_t rows, int i>
  static void add_input(const typename F::Tile& tile, std::size_t lane, typename S::F step,
                        typename S::Bytes group, std::size_t first, const float* const (&x)[rows],
                        typename S::F (&sums)[rows]) noexcept {
    auto weight = S::mul(step, code_value<S, F, i>(group));
    if constexpr (F::kHasMinimum) weight = S::add(weight, F::template minimums<S>(tile, lane));
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] = S::fma(weight, S::set(x[r][first + i]), sums[r]);
    }
  }
};

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

template <class S, class F>
void fill_matmul(KernelTable& table) noexcept {
  const auto type = static_cast<std::size_t>(F::kType);
  if constexpr (F::kIsFloat) {
    table.matmul[type] = matmul<S, FloatProduct<S, F>>;
    table.matmul_float[type] = matmul<S, FloatProduct<S, F>>;
  } else {
    table.matmul[type] = matmul<S, IntegerProduct<S, F>>;
    table.matmul_float[type] = matmul<S, DequantizedProduct<S, F>>;
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
