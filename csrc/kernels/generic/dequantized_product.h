// Block weights times float activations, for measuring quality: weights take the value
// that dequantize() gives them, then sum as float weights do.
#pragma once

#include "kernels/generic/tile_row.h"

namespace rwkvcpp::kernels {
namespace {

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
      const auto minimum = weight_minimum(tile, sub, g / 4, lane);
      add_input<rows, 0>(step, minimum, codes[g], 4 * g, x, sums);
      add_input<rows, 1>(step, minimum, codes[g], 4 * g, x, sums);
      add_input<rows, 2>(step, minimum, codes[g], 4 * g, x, sums);
      add_input<rows, 3>(step, minimum, codes[g], 4 * g, x, sums);
    }
  }

  static typename S::F weight_step(const typename F::Tile& tile, std::size_t sub, std::size_t half,
                                   std::size_t lane) noexcept {
    const auto scales = F::template scales<S>(tile, sub, lane);
    if constexpr (F::kHalfScales) {
      return S::mul(scales, S::to_float(F::template sub_scales<S>(tile, sub, half, lane)));
    } else {
      return scales;
    }
  }

  static typename S::F weight_minimum(const typename F::Tile& tile, std::size_t sub,
                                      std::size_t half, std::size_t lane) noexcept {
    if constexpr (F::kHasMinimum && F::kHalfScales) {
      return S::mul(F::template minimums<S>(tile, sub, lane),
                    S::to_float(F::template sub_minimums<S>(tile, sub, half, lane)));
    } else if constexpr (F::kHasMinimum) {
      return F::template minimums<S>(tile, sub, lane);
    } else {
      return S::set(0.0f);
    }
  }

  template <std::size_t rows, int i>
  static void add_input(typename S::F step, typename S::F minimum, typename S::Bytes group,
                        std::size_t first, const float* x, typename S::F (&sums)[rows]) noexcept {
    auto weight = S::mul(step, code_value<S, F, i>(group));
    if constexpr (F::kHasMinimum) weight = S::add(weight, minimum);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < rows; ++r) {
      sums[r] = S::fma(weight, S::set(x[(first + i) * rows + r]), sums[r]);
    }
  }
};

}  // namespace
}  // namespace rwkvcpp::kernels
