// Two tile rows times a whole panel of int8 activations: what a row of x costs to
// broadcast is paid once for 32 outputs, and the sums wait in cache while the codes of
// both tiles stay in registers. For instruction sets with registers for it (S::kWide).
#pragma once

#include <cstring>

#include "kernels/generic/integer_product.h"

namespace rwkvcpp::kernels {
namespace {

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

}  // namespace
}  // namespace rwkvcpp::kernels
