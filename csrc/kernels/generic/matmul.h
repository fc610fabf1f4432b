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
#include <cstring>

#include "kernels/kernel_table.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
inline constexpr std::size_t kParts = kTileRows / S::kLanes;

/// Asks for the tile a few blocks on: several rows keep a core busy for longer than
/// its own look-ahead reaches.
template <class Tile>
void prefetch_after(const Tile* tile) noexcept {
  constexpr std::size_t kDistance = 4096, kLine = 64;  // bytes
  const auto* ahead = reinterpret_cast<const std::uint8_t*>(tile) + kDistance;
  for (std::size_t i = 0; i < sizeof(Tile); i += kLine) __builtin_prefetch(ahead + i);
}

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

/// The panel that starts at `row`, of floats: [input][row].
template <class F>
const float* float_panel(const MatmulArgs& a, std::size_t row) noexcept {
  return static_cast<const float*>(a.x) + row * a.n_units * F::kInputs;
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
      prefetch_after(tiles + unit);
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
    const float* x = float_panel<F>(a, row);
    Sums<S, rows> sums;
    sums.clear();
    for (std::size_t i = 0; i < a.n_units; ++i, x += rows) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < kParts<S>; ++p) {
        const auto weights = F::template weights<S>(tiles[i], p * S::kLanes);
#pragma GCC unroll 16
        for (std::size_t r = 0; r < rows; ++r) {
          sums.values[p][r] = S::fma(weights, S::set(x[r]), sums.values[p][r]);
        }
      }
    }
    sums.store(a, tile, row);
  }

  template <std::size_t n_tiles>
  static void tiles_of_one_row(const MatmulArgs& a, std::size_t tile) noexcept {
    const auto* tiles = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const auto* x = static_cast<const float*>(a.x);
    Sums<S, n_tiles> sums;  // tiles in the place of rows
    sums.clear();
    for (std::size_t i = 0; i < a.n_units; ++i) {
      const auto input = S::set(x[i]);
#pragma GCC unroll 4
      for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 4
        for (std::size_t t = 0; t < n_tiles; ++t) {
          const auto weights = F::template weights<S>(tiles[t * a.n_units + i], p * S::kLanes);
          sums.values[p][t] = S::fma(weights, input, sums.values[p][t]);
        }
      }
    }
    for (std::size_t t = 0; t < n_tiles; ++t) {
      for (std::size_t p = 0; p < kParts<S>; ++p) {
        S::store(a.y + (tile + t) * kTileRows + p * S::kLanes, sums.values[p][t]);
      }
    }
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
    const float* x = float_panel<F>(a, row);
    Sums<S, rows> sums;
    sums.clear();
    for (std::size_t unit = 0; unit < a.n_units; ++unit) {
      for (std::size_t sub = 0; sub < F::kSubBlocks; ++sub, x += kBlock * rows) {
        for (std::size_t p = 0; p < kParts<S>; ++p) {
          add_block<rows>(tiles[unit], sub, p * S::kLanes, x, sums.values[p]);
        }
      }
    }
    sums.store(a, tile, row);
  }

 private:
  template <std::size_t rows>
  static void add_block(const typename F::Tile& tile, std::size_t sub, std::size_t lane,
                        const float* x, typename S::F (&sums)[rows]) noexcept {
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
                        typename S::Bytes group, std::size_t first, const float* x,
                        typename S::F (&sums)[rows]) noexcept {
    auto weight = S::mul(step, code_value<S, F, i>(group));
    if constexpr (F::kHasMinimum) weight = S::add(weight, F::template minimums<S>(tile, lane));
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] = S::fma(weight, S::set(x[(first + i) * rows + r]), sums[r]);
    }
  }
};

/// Two tile rows times a whole panel: what a row of x costs to broadcast is paid once
/// for 32 outputs, and the sums wait in cache while the codes of both tiles stay in
/// registers. For instruction sets with registers for it (S::kWide).
template <class S, class F>
struct WideIntegerProduct {
  static constexpr std::size_t kTiles = 2;

  static void tile_rows(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
    static_assert(S::kLanes == kTileRows);
    constexpr std::size_t rows = S::kMaxRows;
    const auto* first = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const auto* second = first + a.n_units;
    const std::size_t n_blocks = a.n_units * F::kSubBlocks;
    const auto* x = static_cast<const ActivationBlock*>(a.x) + row * n_blocks;
    alignas(64) float sums[rows][kTiles][kTileRows] = {};
    for (std::size_t unit = 0; unit < a.n_units; ++unit) {
      prefetch_after(first + unit);
      prefetch_after(second + unit);
      for (std::size_t sub = 0; sub < F::kSubBlocks; ++sub, x += rows) {
        add_blocks(first[unit], second[unit], sub, x, sums);
      }
    }
    for (std::size_t r = 0; r < rows; ++r) {
      std::memcpy(a.y + (row + r) * a.y_stride + tile * kTileRows, sums[r], sizeof sums[r]);
    }
  }

 private:
  using Floats = float[kTiles][kTileRows];

  static void add_blocks(const typename F::Tile& first, const typename F::Tile& second,
                         std::size_t sub, const ActivationBlock* x, Floats* sums) noexcept {
    typename S::Bytes codes[kTiles][8];
    F::template codes<S>(first, sub, 0, codes[0]);
    F::template codes<S>(second, sub, 0, codes[1]);
    const typename S::F scales[] = {F::template scales<S>(first, 0),
                                    F::template scales<S>(second, 0)};
#pragma GCC unroll 1
    for (std::size_t r = 0; r < S::kMaxRows; ++r) {
      const auto sum0 = S::to_float(block_sum<S, F>(first, sub, 0, codes[0], x[r]));
      const auto sum1 = S::to_float(block_sum<S, F>(second, sub, 0, codes[1], x[r]));
      const auto scale = S::set(x[r].scale);
      auto total0 = S::fma(S::mul(sum0, scales[0]), scale, S::load(sums[r][0]));
      auto total1 = S::fma(S::mul(sum1, scales[1]), scale, S::load(sums[r][1]));
      if constexpr (F::kHasMinimum) {
        const auto sum = S::set(x[r].scaled_sum);
        total0 = S::fma(F::template minimums<S>(first, 0), sum, total0);
        total1 = S::fma(F::template minimums<S>(second, 0), sum, total1);
      }
      S::store(sums[r][0], total0);
      S::store(sums[r][1], total1);
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

/// The same, whole panels by the wide kernel.
template <class S, class F>
void matmul_wide(const MatmulArgs& a) noexcept {
  using Wide = WideIntegerProduct<S, F>;
  const std::size_t whole = a.n_rows / S::kMaxRows * S::kMaxRows;
  std::size_t tile = 0;
  for (; tile + Wide::kTiles <= a.n_tiles; tile += Wide::kTiles) {
    for (std::size_t row = 0; row < whole; row += S::kMaxRows) Wide::tile_rows(a, tile, row);
    for (std::size_t t = tile; t < tile + Wide::kTiles; ++t) {
      rows_of_tile<S, IntegerProduct<S, F>>(a, t, whole);
    }
  }
  for (; tile < a.n_tiles; ++tile) rows_of_tile<S, IntegerProduct<S, F>>(a, tile, 0);
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
