// Two tile rows times whole panels of int8 activations: what a row of x costs to
// broadcast is paid once for 32 outputs, what the codes cost to decode once for up to
// four panels, and the sums wait in cache while the codes of both tiles stay in
// registers. For instruction sets with registers for it (S::kWide).
#pragma once

#include <bit>
#include <cstring>

#include "kernels/generic/integer_product.h"

namespace rwkvcpp::kernels {
namespace {

/// One block column of two tiles' outputs, decoded, with the arithmetic of a block. Who fills it in
/// knows the layout of the weights.
template <class S, class F>
struct WideBlock {
  static constexpr std::size_t kTiles = 2;
  typename S::Bytes codes[kTiles][8];  // signed ones made unsigned
  typename S::F scales[kTiles], minimums[kTiles];
  typename S::I sub_scales[kTiles][F::kHalfScales ? 2 : 1], sub_minimums[kTiles];

  void flip_signs() noexcept {
    if constexpr (F::kSigned) {
#pragma GCC unroll 8
      for (std::size_t g = 0; g < 8; ++g) {
        codes[0][g] = S::flip_signs(codes[0][g]);
        codes[1][g] = S::flip_signs(codes[1][g]);
      }
    }
  }

  /// Adds the block to sums[r * row_stride + t * tile_stride + lane] of rows r.
  [[gnu::always_inline]] void add_to(float* sums, std::size_t row_stride, std::size_t tile_stride,
                                     const ActivationBlock* x, std::size_t rows) const noexcept {
#pragma GCC unroll 1
    for (std::size_t r = 0; r < rows; ++r, sums += row_stride) {
      typename S::I dots[kTiles];
      dot(x[r], dots);
      const auto scale = S::set(x[r].scale);
#pragma GCC unroll 2
      for (std::size_t t = 0; t < kTiles; ++t) {
        auto total = S::load(sums + t * tile_stride);
        total = S::fma(S::mul(S::to_float(dots[t]), scales[t]), scale, total);
        if constexpr (F::kHasMinimum) {
          total = add_minimum<S, F>(minimums[t], sub_minimums[t], x[r], total);
        }
        S::store(sums + t * tile_stride, total);
      }
    }
  }

 private:
  static constexpr int kOffset =
      F::kSigned ? 128 : F::kOffset;  // signed codes: flipped to unsigned
  static constexpr std::size_t kHalves = F::kHalfScales ? 2 : 1;
  static constexpr std::size_t kChains = 2 / kHalves;  // of a sum: they halve the wait for it

  /// The exact integer sums of a block, for both tiles.
  void dot(const ActivationBlock& x, typename S::I (&out)[kTiles]) const noexcept {
#pragma GCC unroll 2
    for (std::size_t half = 0; half < kHalves; ++half) {
      constexpr std::size_t n = 8 / kHalves;
      typename S::I sums[kTiles][2];
      sums[0][0] = sums[1][0] = minus_offset(x, half);
      sums[0][1] = sums[1][1] = S::set_int(0);
#pragma GCC unroll 8
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t g = half * n + i;
        const auto four = S::broadcast4(x.values + 4 * g);
        sums[0][i % kChains] = S::dot4(sums[0][i % kChains], codes[0][g], four);
        sums[1][i % kChains] = S::dot4(sums[1][i % kChains], codes[1][g], four);
      }
#pragma GCC unroll 2
      for (std::size_t t = 0; t < kTiles; ++t) {
        auto sum = kChains > 1 ? S::add(sums[t][0], sums[t][1]) : sums[t][0];
        if constexpr (F::kHalfScales) sum = S::mul(sum, sub_scales[t][half]);
        out[t] = half == 0 ? sum : S::add(out[t], sum);
      }
    }
  }

  static typename S::I minus_offset(const ActivationBlock& x, std::size_t half) noexcept {
    if constexpr (kOffset == 0) return S::set_int(0);
    return S::set_int(-kOffset * (F::kHalfScales ? x.half_sum[half] : x.sum));
  }
};

template <class S, class F>
struct WideIntegerProduct {
  using Block = WideBlock<S, F>;
  static constexpr std::size_t kTiles = Block::kTiles;

  template <std::size_t rows, std::size_t panels>
  static void tile_rows(const MatmulArgs& a, std::size_t tile, std::size_t row) noexcept {
    static_assert(S::kLanes == kTileRows);
    const auto* first = static_cast<const typename F::Tile*>(a.tiles) + tile * a.n_units;
    const auto* second = first + a.n_units;
    const std::size_t n_blocks = a.n_units * F::kSubBlocks;
    const auto* x = static_cast<const ActivationBlock*>(a.x) + row * n_blocks;
    alignas(64) float sums[panels * rows][kTiles][kTileRows] = {};
    for (std::size_t unit = 0; unit < a.n_units; ++unit) {
      for (std::size_t sub = 0; sub < F::kSubBlocks; ++sub, x += rows) {
        prefetch_after<F>(first + unit, sub);
        prefetch_after<F>(second + unit, sub);
        Block block;
        load(first[unit], sub, 0, block);
        load(second[unit], sub, 1, block);
        block.flip_signs();
        for (std::size_t p = 0; p < panels; ++p) {
          block.add_to(sums[p * rows][0], kTiles * kTileRows, kTileRows, x + p * rows * n_blocks,
                       rows);
        }
      }
    }
    for (std::size_t r = 0; r < panels * rows; ++r) {
      std::memcpy(a.y + (row + r) * a.y_stride + tile * kTileRows, sums[r], sizeof sums[r]);
    }
  }

 private:
  [[gnu::always_inline]] static void load(const typename F::Tile& tile, std::size_t sub,
                                          std::size_t t, Block& block) noexcept {
    F::template codes<S>(tile, sub, 0, block.codes[t]);
    block.scales[t] = F::template scales<S>(tile, sub, 0);
    if constexpr (F::kHasMinimum) block.minimums[t] = F::template minimums<S>(tile, sub, 0);
    if constexpr (F::kHalfScales) {
      block.sub_scales[t][0] = F::template sub_scales<S>(tile, sub, 0, 0);
      block.sub_scales[t][1] = F::template sub_scales<S>(tile, sub, 1, 0);
      if constexpr (F::kHasMinimum) block.sub_minimums[t] = sub_minimum_pairs<S, F>(tile, sub, 0);
    }
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
