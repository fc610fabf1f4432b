// Block weights times int8 activations. Per block of 32 inputs the codes are decoded
// once for all rows of the panel, and summed in integers, exactly:
//   sum = fma(float(integer sum) * weight scale, activation scale, sum)
//   sum = fma(weight minimum, activation scale * sum of its codes, sum)
#pragma once

#include "kernels/generic/tile_row.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

/// One block's exact integer sum for S::kLanes outputs. Always inlined: sub-scales then stay in
/// registers from row to row.
template <class S, class F>
[[gnu::always_inline]] inline typename S::I block_sum(const typename F::Tile& tile, std::size_t sub,
                                                      std::size_t lane,
                                                      const typename S::Bytes (&codes)[8],
                                                      const ActivationBlock& x) noexcept {
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

}  // namespace
}  // namespace rwkvcpp::kernels
