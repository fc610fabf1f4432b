// Float weights times float activations: inputs in order, one chain of fused
// multiply-adds per output.
#pragma once

#include "kernels/generic/tile_row.h"

namespace rwkvcpp::kernels {
namespace {

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

}  // namespace
}  // namespace rwkvcpp::kernels
