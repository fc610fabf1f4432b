// Block weights times int8 activations. Per block of 32 inputs the codes are decoded
// once for all rows of the panel, and summed in integers, exactly:
//   sum = fma(float(integer sum) * weight scale, activation scale, sum)
//   sum = fma(weight minimum, activation scale * sum of its codes, sum)
//
// Sub-scales of whole blocks belong to the weight scale: their product is exact, and so is
// the integer sum, so that the first line rounds the same as with the integer sum times
// the sub-scale in its place. Where halves of a block have sub-scales of their own, these
// multiply the integer sums of the halves, which stay below 2^24; sub-minimums of halves
// likewise, in fma(float(sum of sub-minimum * sum of codes) * minimum, activation scale, sum).
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

/// The sub-minimums of both halves of a block, as 16-bit numbers side by side.
template <class S, class F>
typename S::I sub_minimum_pairs(const typename F::Tile& tile, std::size_t sub,
                                std::size_t lane) noexcept {
  return S::bit_or(F::template sub_minimums<S>(tile, sub, 0, lane),
                   S::template shift_left<16>(F::template sub_minimums<S>(tile, sub, 1, lane)));
}

/// What a block's minimum adds to a sum; `pairs` counts with sub-minimums of halves alone.
template <class S, class F>
typename S::F add_minimum(typename S::F minimums, typename S::I pairs, const ActivationBlock& x,
                          typename S::F sum) noexcept {
  if constexpr (F::kHalfScales) {
    const auto halves = S::to_float(S::dot_pairs(pairs, x.half_sum));
    return S::fma(S::mul(halves, minimums), S::set(x.scale), sum);
  } else {
    return S::fma(minimums, S::set(x.scaled_sum), sum);
  }
}

/// Adds one block column of a tile to S::kLanes outputs of `rows` rows.
template <class S, class F, std::size_t rows>
void add_block(const typename F::Tile& tile, std::size_t sub, std::size_t lane,
               const ActivationBlock* x, typename S::F (&sums)[rows]) noexcept {
  typename S::Bytes codes[8];
  F::template codes<S>(tile, sub, lane, codes);
  const auto scales = F::template scales<S>(tile, sub, lane);
#pragma GCC unroll 16
  for (std::size_t r = 0; r < rows; ++r) {
    const auto sum = S::to_float(block_sum<S, F>(tile, sub, lane, codes, x[r]));
    sums[r] = S::fma(S::mul(sum, scales), S::set(x[r].scale), sums[r]);
  }
  if constexpr (F::kHasMinimum) {
    const auto minimums = F::template minimums<S>(tile, sub, lane);
    typename S::I pairs = S::set_int(0);
    if constexpr (F::kHalfScales) pairs = sub_minimum_pairs<S, F>(tile, sub, lane);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] = add_minimum<S, F>(minimums, pairs, x[r], sums[r]);
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
        prefetch_after<F>(tiles + unit, sub);
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
