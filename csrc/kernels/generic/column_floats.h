// Float weights by columns (quant/columns.h): all inputs, or only those that are not zero. A
// product with zero adds zero where weights are finite, as the packer found them to be.
#pragma once

#include "kernels/generic/columns.h"

namespace rwkvcpp::kernels {
namespace {

inline constexpr std::size_t kFloatParts = 4;  // registers of outputs
template <class S>
inline constexpr std::size_t kFloatRows = S::kWide ? 4 : 2;  // of x, for each

/// Float weights: as many of a strip's outputs as registers hold, for one or two rows, keep their
/// sums there for a block.
template <class S, class F, std::size_t rows>
void add_float_part(const ColumnArgs& a, const ColumnBlock<F>& block, std::size_t strip,
                    std::size_t lane, const ActiveInputs& active, const float* x,
                    std::size_t panel_rows, float* y) noexcept {
  typename S::F sums[rows][kFloatParts];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kFloatParts; ++p) {
      sums[r][p] = S::load(y + r * a.y_stride + lane + p * S::kLanes);
    }
  }
  for (std::size_t i = 0; i < active.n_active; ++i) {
    const std::size_t input = active.index[i];
    const std::uint8_t* codes = block.codes + input * block.run + strip * F::kStripCodes;
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kFloatParts; ++p) {
      const auto weights = F::template column_weights<S>(codes, lane + p * S::kLanes);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < rows; ++r) {
        sums[r][p] = S::fma(weights, S::set(x[input * panel_rows + r]), sums[r][p]);
      }
    }
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kFloatParts; ++p) {
      S::store(y + r * a.y_stride + lane + p * S::kLanes, sums[r][p]);
    }
  }
}

template <class S, class F, std::size_t rows>
void add_float_rows(const ColumnArgs& a, const ColumnBlock<F>& block, std::size_t strip,
                    const ActiveInputs& active, const float* x, std::size_t panel_rows,
                    float* y) noexcept {
  std::size_t r = 0;
  for (; r + rows <= panel_rows; r += rows) {
    for (std::size_t lane = 0; lane < kStripRows; lane += kFloatParts * S::kLanes) {
      add_float_part<S, F, rows>(a, block, strip, lane, active, x + r, panel_rows,
                                 y + r * a.y_stride);
    }
  }
  if constexpr (rows > 1) {
    if (r < panel_rows) add_float_rows<S, F, rows / 2>(a, block, strip, active, x, panel_rows, y);
  }
}

template <class S, class F>
void columns_of_floats(const ColumnArgs& a) noexcept {
  clear_outputs(a);
  const auto* x = static_cast<const float*>(a.x);
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    const ActiveInputs& active = a.active != nullptr ? a.active[b] : kAllInputs;
    for (std::size_t s = a.first_strip; s < a.end_strip; ++s) {
      for_panels<S>(a.n_rows, [&](std::size_t first, std::size_t rows) {
        add_float_rows<S, F, kFloatRows<S>>(
            a, block, s, active, x + (first * a.n_blocks + b * rows) * kBlock, rows,
            a.y + first * a.y_stride + (s - a.first_strip) * kStripRows);
      });
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
