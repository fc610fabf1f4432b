// Weights by columns (quant/columns.h) times activations, all of them or only where
// they are not zero. Per block of 32 inputs and strip of 32 rows the codes of the wanted
// inputs are gathered, four inputs at a time, and meet all rows of x; the sums are
// integers and exact, so leaving out zeros changes no bit, and the rest is done for every
// block, as the other products do it. Outputs collect in y, block after block.
#pragma once

#include <cstring>

#include "kernels/generic/tile_row.h"
#include "quant/activations.h"
#include "quant/columns.h"

namespace rwkvcpp::kernels {
namespace {

inline constexpr ActiveInputs kAllInputs = [] {
  ActiveInputs all{kBlock, kBlock / 4, {}};
  for (std::size_t i = 0; i < kBlock; ++i) all.index[i] = static_cast<std::uint8_t>(i);
  return all;
}();

/// Asks for what a block on will be read of these strips: runs are too short, and too far apart,
/// for the hardware to see them coming.
template <class F>
void prefetch_active(const ColumnArgs& a, std::size_t b) noexcept {
  constexpr std::size_t kLine = 64, kCodes = F::kStripCodes - F::kStripBits;
  const ColumnBlock<F> block(a.panel, a.n_strips, b);
  const auto ask = [](const std::uint8_t* from, const std::uint8_t* to) {
    for (; from < to; from += kLine) __builtin_prefetch(from);
  };
  ask(block.scales + a.first_strip * F::kStripScales, block.scales + a.end_strip * F::kStripScales);
  const ActiveInputs& active = a.active[b];
  const bool all = !F::kIsFloat && active.n_groups == kBlock / 4;
  for (std::size_t i = 0; i < (all ? kBlock : active.n_active); ++i) {
    const std::uint8_t* run = block.codes + active.index[i] * block.run;
    ask(run + a.first_strip * kCodes, run + a.end_strip * kCodes);
    if constexpr (F::kStripBits > 0) {
      const std::uint8_t* bits = run + a.n_strips * kCodes;
      ask(bits + a.first_strip * F::kStripBits, bits + a.end_strip * F::kStripBits);
    }
  }
}

template <class F>
void clear_outputs(const ColumnArgs& a) noexcept {
  const std::size_t n = (a.end_strip - a.first_strip) * kStripRows;
  for (std::size_t r = 0; r < a.n_rows; ++r)
    std::memset(a.y + r * a.y_stride, 0, n * sizeof(float));
}

/// Calls body(first, rows) for the panels of x.
template <class S, class Body>
void for_panels(std::size_t n_rows, Body body) noexcept {
  for (std::size_t first = 0; first < n_rows;) {
    const std::size_t rows = panel_rows(first, n_rows, S::kMaxRows);
    body(first, rows);
    first += rows;
  }
}

/// One block of one strip, the codes of n_groups groups of four inputs.
template <class S, class F, std::size_t n_groups>
struct IntegerStrip {
  static constexpr std::size_t kParts = kHalfStrip / S::kLanes;
  typename S::Bytes codes[2][kParts][n_groups];
  typename S::F scales[2][kParts], minimums[2][kParts];

  IntegerStrip(const ColumnArgs& a, const ColumnBlock<F>& block, const std::uint8_t* const* runs,
               std::size_t strip) noexcept {
    const std::uint8_t* header = block.scales + strip * F::kStripScales;
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kParts; ++p) {
#pragma GCC unroll 8
      for (std::size_t g = 0; g < n_groups; ++g) {
        F::template column_codes<S>(runs + 4 * g, a.n_strips, strip, p * S::kLanes, codes[0][p][g],
                                    codes[1][p][g]);
      }
#pragma GCC unroll 2
      for (std::size_t h = 0; h < 2; ++h) {
        const std::size_t row = h * kHalfStrip + p * S::kLanes;
        scales[h][p] = F::template column_scales<S>(header, row);
        if constexpr (F::kHasMinimum) minimums[h][p] = F::template column_minimums<S>(header, row);
      }
    }
  }

  /// Adds the block to the 32 outputs of one row.
  [[gnu::always_inline]] void add_to(float* y, const ActivationBlock& x,
                                     const std::int8_t* values) const noexcept {
    const auto scale = S::set(x.scale);
#pragma GCC unroll 2
    for (std::size_t p = 0; p < kParts; ++p) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < 2; ++h) {
        float* out = y + h * kHalfStrip + p * S::kLanes;
        const auto sum = S::to_float(dot(codes[h][p], x, values));
        auto total = S::fma(S::mul(sum, scales[h][p]), scale, S::load(out));
        if constexpr (F::kHasMinimum) {
          total = S::fma(minimums[h][p], S::set(x.scaled_sum), total);
        }
        S::store(out, total);
      }
    }
  }

  static typename S::I dot(const typename S::Bytes (&four)[n_groups], const ActivationBlock& x,
                           const std::int8_t* values) noexcept {
    if constexpr (F::kSigned) {
      return S::template dot_signed<n_groups>(four, values, x.sum);
    } else {
      return S::template dot<F::kMaxCode, n_groups>(S::set_int(-F::kOffset * x.sum), four, values);
    }
  }
};

template <class S, class F, std::size_t n_groups>
void add_column_block(const ColumnArgs& a, std::size_t b, const ActiveInputs& active) noexcept {
  const ColumnBlock<F> block(a.panel, a.n_strips, b);
  const std::uint8_t* runs[4 * n_groups];
  for (std::size_t i = 0; i < 4 * n_groups; ++i) {
    runs[i] = block.codes + active.index[i] * block.run;
  }
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  for (std::size_t s = a.first_strip; s < a.end_strip; ++s) {
    const IntegerStrip<S, F, n_groups> strip(a, block, runs, s);
    float* y = a.y + (s - a.first_strip) * kStripRows;
    for_panels<S>(a.n_rows, [&](std::size_t first, std::size_t rows) {
      const ActivationBlock* panel = x + first * a.n_blocks + b * rows;
#pragma GCC unroll 1
      for (std::size_t r = 0; r < rows; ++r) {
        const std::int8_t* values =
            a.active != nullptr ? a.active_values + (b * a.n_rows + r) * kBlock : panel[r].values;
        strip.add_to(y + (first + r) * a.y_stride, panel[r], values);
      }
    });
  }
}

constexpr std::size_t kColumnsAhead = 2;  // blocks

template <class S, class F>
void column_product(const ColumnArgs& a) noexcept {
  clear_outputs<F>(a);
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    if (a.active == nullptr) {
      add_column_block<S, F, 8>(a, b, kAllInputs);
      continue;
    }
    if (b + kColumnsAhead < a.n_blocks) prefetch_active<F>(a, b + kColumnsAhead);
    const ActiveInputs& active = a.active[b];
    switch (active.n_groups) {
      case 1:
        add_column_block<S, F, 1>(a, b, active);
        break;
      case 2:
        add_column_block<S, F, 2>(a, b, active);
        break;
      case 4:
        add_column_block<S, F, 4>(a, b, active);
        break;
      default:
        add_column_block<S, F, 8>(a, b, active);
    }
  }
}

/// Float weights: a few rows at a time, so that their sums stay in registers for a block.
template <class S, class F, std::size_t rows>
void add_float_strip(const ColumnArgs& a, const ColumnBlock<F>& block, std::size_t strip,
                     const ActiveInputs& active, const float* x, std::size_t panel_rows,
                     float* y) noexcept {
  constexpr std::size_t kParts = kStripRows / S::kLanes;
  typename S::F sums[rows][kParts];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts; ++p)
      sums[r][p] = S::load(y + r * a.y_stride + p * S::kLanes);
  }
  for (std::size_t i = 0; i < active.n_active; ++i) {
    const std::size_t input = active.index[i];
    const std::uint8_t* codes = block.codes + input * block.run + strip * F::kStripCodes;
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts; ++p) {
      const auto weights = F::template column_weights<S>(codes, p * S::kLanes);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < rows; ++r) {
        sums[r][p] = S::fma(weights, S::set(x[input * panel_rows + r]), sums[r][p]);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts; ++p)
      S::store(y + r * a.y_stride + p * S::kLanes, sums[r][p]);
  }
}

template <class S, class F, std::size_t rows>
void add_float_rows(const ColumnArgs& a, const ColumnBlock<F>& block, std::size_t strip,
                    const ActiveInputs& active, const float* x, std::size_t panel_rows,
                    float* y) noexcept {
  std::size_t r = 0;
  for (; r + rows <= panel_rows; r += rows) {
    add_float_strip<S, F, rows>(a, block, strip, active, x + r, panel_rows, y + r * a.y_stride);
  }
  if constexpr (rows > 1) {
    if (r < panel_rows) add_float_rows<S, F, rows / 2>(a, block, strip, active, x, panel_rows, y);
  }
}

template <class S, class F>
void column_product_floats(const ColumnArgs& a) noexcept {
  constexpr std::size_t kRegisters = 16;  // for sums
  constexpr std::size_t kRows =
      kRegisters > kStripRows / S::kLanes ? kRegisters * S::kLanes / kStripRows : 1;
  clear_outputs<F>(a);
  const auto* x = static_cast<const float*>(a.x);
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_strips, b);
    if (a.active != nullptr && b + kColumnsAhead < a.n_blocks) {
      prefetch_active<F>(a, b + kColumnsAhead);
    }
    const ActiveInputs& active = a.active != nullptr ? a.active[b] : kAllInputs;
    for (std::size_t s = a.first_strip; s < a.end_strip; ++s) {
      for_panels<S>(a.n_rows, [&](std::size_t first, std::size_t rows) {
        add_float_rows<S, F, kRows>(a, block, s, active,
                                    x + (first * a.n_blocks + b * rows) * kBlock, rows,
                                    a.y + first * a.y_stride + (s - a.first_strip) * kStripRows);
      });
    }
  }
}

/// Lists the set bits of a mask.
inline void list_active(std::uint32_t mask, ActiveInputs& out) noexcept {
  std::size_t n = 0;
  for (; mask != 0; mask &= mask - 1) {
    out.index[n++] = static_cast<std::uint8_t>(__builtin_ctz(mask));
  }
  out.n_active = static_cast<std::uint8_t>(n);
  const std::size_t groups = (n + 3) / 4;
  out.n_groups = groups <= 1 ? 1 : groups <= 2 ? 2 : groups <= 4 ? 4 : 8;
}

template <class S>
std::size_t find_active(const ActiveArgs& a) noexcept {
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  std::size_t total = 0;
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ActivationBlock* block = x + b * a.n_rows;
    std::uint32_t mask = 0;
    for (std::size_t r = 0; r < a.n_rows; ++r) mask |= S::nonzero(block[r].values);
    ActiveInputs& out = a.active[b];
    list_active(mask, out);
    total += out.n_active;
    if (out.n_groups == kBlock / 4) std::memcpy(out.index, kAllInputs.index, kBlock);
    const std::size_t n = out.n_groups == kBlock / 4 ? kBlock : out.n_active;
    std::int8_t* values = a.values + b * a.n_rows * kBlock;
    for (std::size_t i = n; i < 4u * out.n_groups; ++i) out.index[i] = n > 0 ? out.index[0] : 0;
    for (std::size_t r = 0; r < a.n_rows; ++r, values += kBlock) {
      for (std::size_t i = 0; i < n; ++i) values[i] = block[r].values[out.index[i]];
      for (std::size_t i = n; i < 4u * out.n_groups; ++i) values[i] = 0;
    }
  }
  return total;
}

inline std::size_t find_active_floats(const ActiveArgs& a) noexcept {
  const auto* x = static_cast<const float*>(a.x);
  std::size_t total = 0;
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    std::uint32_t mask = 0;
    for (std::size_t i = 0; i < kBlock; ++i, x += a.n_rows) {
      for (std::size_t r = 0; r < a.n_rows; ++r) mask |= std::uint32_t{x[r] != 0.0f} << i;
    }
    list_active(mask, a.active[b]);
    total += a.active[b].n_active;
  }
  return total;
}

template <class S, class F>
void fill_columns(KernelTable& table) noexcept {
  if constexpr (F::kHasColumns) {
    const auto type = static_cast<std::size_t>(F::kType);
    if constexpr (F::kIsFloat) {
      table.columns[type] = column_product_floats<S, F>;
    } else {
      table.columns[type] = column_product<S, F>;
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
