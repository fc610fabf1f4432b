// Weights by columns (quant/columns.h) times a few rows of int8 activations, all inputs or
// only those that are not zero: four runs at a time are read from end to end, as fast as
// memory gives them, while the integer sums of the panel wait in cache. They are exact, so
// leaving out zeros changes no bit; scales are applied for every block, in the order of the
// other products.
#pragma once

#include "kernels/generic/columns.h"

namespace rwkvcpp::kernels {
namespace {

constexpr std::size_t kRunsAhead = 4096;  // bytes, when all inputs are wanted
constexpr std::size_t kBlocksAhead = 4;   // when some are

/// Four inputs of a block and their activations in `rows` rows.
template <std::size_t rows>
struct FourInputs {
  const std::uint8_t* runs[4];
  const std::int8_t* values[rows];
  std::int32_t sums[rows];  // of the four values
};

template <class S, class F>
struct ColumnRuns {
  using Bytes = typename S::Bytes;

  /// One block of a panel of rows; values as in ColumnArgs, `stride` from row to row.
  template <std::size_t rows>
  static void add_block(const ColumnArgs& a, std::size_t b, const ActivationBlock* x,
                        const std::int8_t* values, std::size_t stride, float* y) noexcept {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    const ActiveInputs& inputs = a.active != nullptr ? a.active[b] : kAllInputs;
    alignas(64) float sums[rows][kPanelRows];
    start<rows>(a, x, sums);
    std::size_t i = 0;
    for (; i + 4 < inputs.n_active; i += 8) {
      add_inputs<rows, 2>(a, block, inputs, i, values, stride, sums);
    }
    if (i < inputs.n_active) add_inputs<rows, 1>(a, block, inputs, i, values, stride, sums);
    for (std::size_t r = 0; r < rows; ++r) finish(a, block, x[r], sums[r], y + r * a.y_stride);
  }

 private:
  template <std::size_t rows>
  static void start(const ColumnArgs& a, const ActivationBlock* x,
                    float (&sums)[rows][kPanelRows]) noexcept {
    const std::size_t n = (a.end_strip - a.first_strip) * kStripRows;
    for (std::size_t r = 0; r < rows; ++r) {
      const auto offset = S::as_float(S::set_int(F::kSigned ? 0 : -F::kOffset * x[r].sum));
      for (std::size_t i = 0; i < n; i += S::kLanes) S::store(sums[r] + i, offset);
    }
  }

  /// Inputs i ... i + 4 n - 1 of all strips.
  template <std::size_t rows, std::size_t n>
  static void add_inputs(const ColumnArgs& a, const ColumnBlock<F>& block,
                         const ActiveInputs& inputs, std::size_t i, const std::int8_t* values,
                         std::size_t stride, float (&sums)[rows][kPanelRows]) noexcept {
    FourInputs<rows> fours[n];
    for (std::size_t g = 0; g < n; ++g, i += 4) {
      for (std::size_t j = 0; j < 4; ++j) {
        fours[g].runs[j] = block.codes + inputs.index[i + j] * block.run;
      }
      for (std::size_t r = 0; r < rows; ++r) {
        const std::int8_t* v = values + r * stride + i;
        fours[g].values[r] = v;
        fours[g].sums[r] = v[0] + v[1] + v[2] + v[3];
      }
    }
    for (std::size_t strip = a.first_strip; strip < a.end_strip; ++strip) {
      add_strip<rows, n>(a, fours, strip, sums);
    }
  }

  /// The strip's codes of 4 n inputs meet all rows.
  template <std::size_t rows, std::size_t n>
  [[gnu::always_inline]] static void add_strip(const ColumnArgs& a,
                                               const FourInputs<rows> (&fours)[n],
                                               std::size_t strip,
                                               float (&sums)[rows][kPanelRows]) noexcept {
    const std::size_t first = (strip - a.first_strip) * kStripRows;
    if (a.active == nullptr) {
#pragma GCC unroll 2
      for (std::size_t g = 0; g < n; ++g) prefetch_onward(fours[g].runs, strip);
    }
#pragma GCC unroll 4
    for (std::size_t lane = 0; lane < kTileRows; lane += S::kLanes) {
      Bytes codes[kSlices][2][n];
#pragma GCC unroll 2
      for (std::size_t g = 0; g < n; ++g) decode(a, fours[g].runs, strip, lane, codes, g);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < rows; ++r) {
        float* row = sums[r] + first + lane;
#pragma GCC unroll 4
        for (std::size_t k = 0; k < kSlices; ++k) {
          add(fours, r, codes[k][0], row + k * kTileRows);
          add(fours, r, codes[k][1], row + kLineRows + k * kTileRows);
        }
      }
    }
  }

  template <std::size_t n>
  [[gnu::always_inline]] static void decode(const ColumnArgs& a, const std::uint8_t* const* runs,
                                            std::size_t strip, std::size_t lane,
                                            Bytes (&codes)[kSlices][2][n], std::size_t g) noexcept {
    F::template column_codes<S, 0>(runs, a.n_strips, strip, lane, codes[0][0][g], codes[0][1][g]);
    F::template column_codes<S, 1>(runs, a.n_strips, strip, lane, codes[1][0][g], codes[1][1][g]);
    F::template column_codes<S, 2>(runs, a.n_strips, strip, lane, codes[2][0][g], codes[2][1][g]);
    F::template column_codes<S, 3>(runs, a.n_strips, strip, lane, codes[3][0][g], codes[3][1][g]);
  }

  template <std::size_t rows, std::size_t n>
  [[gnu::always_inline]] static void add(const FourInputs<rows> (&fours)[n], std::size_t r,
                                         const Bytes (&codes)[n], float* sum) noexcept {
    auto total = S::as_int(S::load(sum));
#pragma GCC unroll 2
    for (std::size_t g = 0; g < n; ++g) {
      total = dot(total, codes[g], fours[g].values[r], fours[g].sums[r]);
    }
    S::store(sum, S::as_float(total));
  }

  static typename S::I dot(typename S::I before, const Bytes& codes, const std::int8_t* x,
                           std::int32_t x_sum) noexcept {
    if constexpr (F::kSigned) {
      return S::add(before, S::template dot_signed<1>(&codes, x, x_sum));
    } else {
      return S::template dot<F::kMaxCode, 1>(before, &codes, x);
    }
  }

  /// All inputs are wanted: what comes after these four lines is known.
  [[gnu::always_inline]] static void prefetch_onward(const std::uint8_t* const* runs,
                                                     std::size_t strip) noexcept {
    constexpr std::size_t kCodes = F::kStripCodes - F::kStripBits;
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {
#pragma GCC unroll 2
      for (std::size_t i = 0; i < kCodes; i += kCacheLine) {
        __builtin_prefetch(runs[j] + strip * kCodes + i + kRunsAhead);
      }
    }
  }

  /// y += scales * sums * x.scale + minimums * x.scaled_sum
  static void finish(const ColumnArgs& a, const ColumnBlock<F>& block, const ActivationBlock& x,
                     const float* sums, float* y) noexcept {
    const auto scale = S::set(x.scale);
    for (std::size_t strip = a.first_strip; strip < a.end_strip; ++strip) {
      const std::uint8_t* header = block.scales + strip * F::kStripScales;
      for (std::size_t row = 0; row < kStripRows; row += S::kLanes) {
        const auto sum = S::to_float(S::as_int(S::load(sums + row)));
        auto total = S::load(y + row);
        total = S::fma(S::mul(sum, F::template column_scales<S>(header, row)), scale, total);
        if constexpr (F::kHasMinimum) {
          total = S::fma(F::template column_minimums<S>(header, row), S::set(x.scaled_sum), total);
        }
        S::store(y + row, total);
      }
      sums += kStripRows;
      y += kStripRows;
    }
  }
};

template <class S, class F>
void columns_by_runs(const ColumnArgs& a) noexcept {
  using Runs = ColumnRuns<S, F>;
  clear_outputs(a);
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    if (a.active != nullptr && b + kBlocksAhead < a.n_blocks) {
      prefetch_columns<F>(a, b + kBlocksAhead, a.active[b + kBlocksAhead]);
    }
    for_panels<S>(a.n_rows, [&](std::size_t first, std::size_t rows) {
      const ActivationBlock* panel = x + first * a.n_blocks + b * rows;
      const bool skips = a.active != nullptr;
      const std::int8_t* values = skips ? a.active_values + b * rows * kBlock : panel->values;
      const std::size_t stride = skips ? kBlock : sizeof(ActivationBlock);
      float* y = a.y + first * a.y_stride;
      if (rows == 1) {
        Runs::template add_block<1>(a, b, panel, values, stride, y);
      } else if (rows == 2) {
        Runs::template add_block<2>(a, b, panel, values, stride, y);
      } else {
        Runs::template add_block<4>(a, b, panel, values, stride, y);
      }
    });
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
