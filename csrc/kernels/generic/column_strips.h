// Weights by columns (quant/columns.h) times many rows of int8 activations: all inputs of a
// block, sixteen outputs of both lines at a time, whose codes stay in registers for all
// rows while the sums wait in cache.
#pragma once

#include "kernels/generic/columns.h"
#include "kernels/generic/wide_product.h"

namespace rwkvcpp::kernels {
namespace {

/// Asks for a slice's share of the next block but one. Always inlined, as the next: g++ takes a
/// function that only prefetches for one without effect.
template <class F>
[[gnu::always_inline]] inline void prefetch_share(const ColumnBlock<F>& block, std::size_t slice,
                                                  std::size_t n_slices) noexcept {
  const std::size_t bytes = kBlock * block.run, share = bytes / n_slices;
  const std::uint8_t* from = block.codes + 2 * bytes + slice * share;
  for (std::size_t i = 0; i < share; i += kCacheLine) __builtin_prefetch(from + i);
}

/// Asks for the strip's lines of block b.
template <class F>
[[gnu::always_inline]] inline void prefetch_strip(const ColumnArgs& a, std::size_t b,
                                                  std::size_t strip) noexcept {
  constexpr std::size_t kCodes = F::kStripCodes - F::kStripBits;
  if (b >= a.n_blocks) return;
  const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint8_t* run = block.codes + i * block.run;
    for (std::size_t at = 0; at < kCodes; at += kCacheLine) {
      __builtin_prefetch(run + strip * kCodes + at);
    }
    if constexpr (F::kStripBits > 0) {
      __builtin_prefetch(run + a.n_strips * kCodes + strip * F::kStripBits);
    }
  }
}

template <class F>
struct BlockRuns {
  const std::uint8_t* at[kBlock];

  BlockRuns(const ColumnBlock<F>& block) noexcept {
    for (std::size_t i = 0; i < kBlock; ++i) at[i] = block.codes + i * block.run;
  }
};

// Where registers hold the codes of both lines: the arithmetic of wide_product.h.

/// A block of some strips, decoded: byte for byte what registers will hold.
template <class S>
struct DecodedBlock {
  typename S::Bytes codes[kPanelRows / kStripRows][kSlices][2][kBlock / 4];
};

/// Reads the runs in order, four inputs of all strips at a time.
template <class S, class F>
void decode_block(const ColumnArgs& a, const ColumnBlock<F>& block, std::size_t first,
                  std::size_t end, DecodedBlock<S>& out) noexcept {
  for (std::size_t g = 0; g < kBlock / 4; ++g) {
    const std::uint8_t* runs[4];
    for (std::size_t j = 0; j < 4; ++j) runs[j] = block.codes + (4 * g + j) * block.run;
    for (std::size_t strip = first; strip < end; ++strip) {
      auto& to = out.codes[strip - first];
      typename S::Bytes codes[kSlices][2];
      F::template column_codes<S, 0>(runs, a.n_strips, strip, 0, codes[0][0], codes[0][1]);
      F::template column_codes<S, 1>(runs, a.n_strips, strip, 0, codes[1][0], codes[1][1]);
      F::template column_codes<S, 2>(runs, a.n_strips, strip, 0, codes[2][0], codes[2][1]);
      F::template column_codes<S, 3>(runs, a.n_strips, strip, 0, codes[3][0], codes[3][1]);
#pragma GCC unroll 4
      for (std::size_t k = 0; k < kSlices; ++k) {
        to[k][0][g] = F::kSigned ? S::flip_signs(codes[k][0]) : codes[k][0];
        to[k][1][g] = F::kSigned ? S::flip_signs(codes[k][1]) : codes[k][1];
      }
    }
  }
}

/// A slice of a decoded strip meets rows [row, end_row).
template <class S, class F>
void add_wide_slice(const ColumnArgs& a, std::size_t b, const ColumnBlock<F>& block,
                    const typename S::Bytes (&codes)[2][kBlock / 4], std::size_t strip,
                    std::size_t k, std::size_t row, std::size_t end_row) noexcept {
  WideBlock<S, F> wide;
  const std::uint8_t* header = block.scales + strip * F::kStripScales;
#pragma GCC unroll 2
  for (std::size_t line = 0; line < 2; ++line) {
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kBlock / 4; ++g) wide.codes[line][g] = codes[line][g];
    const std::size_t first = line * kLineRows + k * kTileRows;
    wide.scales[line] = F::template column_scales<S>(header, first);
    if constexpr (F::kHasMinimum) {
      wide.minimums[line] = F::template column_minimums<S>(header, first);
    }
  }
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  float* y = a.y + (strip - a.first_strip) * kStripRows + k * kTileRows;
  while (row < end_row) {
    const std::size_t rows = panel_rows(row, a.n_rows, S::kMaxRows);
    wide.add_to(y + row * a.y_stride, a.y_stride, kLineRows, x + row * a.n_blocks + b * rows, rows);
    row += rows;
  }
}

/// Few rows: memory is what takes time, so blocks are read whole, in order.
template <class S, class F>
void wide_columns_of_few_rows(const ColumnArgs& a) noexcept {
  DecodedBlock<S> decoded;
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    decode_block(a, block, a.first_strip, a.end_strip, decoded);
    for (std::size_t strip = a.first_strip; strip < a.end_strip; ++strip) {
      for (std::size_t k = 0; k < kSlices; ++k) {
        prefetch_share(block, (strip - a.first_strip) * kSlices + k,
                       (a.end_strip - a.first_strip) * kSlices);
        add_wide_slice<S, F>(a, b, block, decoded.codes[strip - a.first_strip][k], strip, k, 0,
                             a.n_rows);
      }
    }
  }
}

/// Many rows: their sums stay in cache while a strip walks over a segment of blocks, which the
/// other strips then find in cache.
template <class S, class F>
void wide_columns_of_many_rows(const ColumnArgs& a) noexcept {
  constexpr std::size_t kSegment = 32, kTogether = 4 * S::kMaxRows;
  DecodedBlock<S> decoded;
  for (std::size_t first = 0; first < a.n_blocks; first += kSegment) {
    const std::size_t end = first + kSegment < a.n_blocks ? first + kSegment : a.n_blocks;
    for (std::size_t strip = a.first_strip; strip < a.end_strip; ++strip) {
      for (std::size_t row = 0; row < a.n_rows; row += kTogether) {
        const std::size_t end_row = row + kTogether < a.n_rows ? row + kTogether : a.n_rows;
        for (std::size_t b = first; b < end; ++b) {
          prefetch_strip<F>(a, b + 1, strip);
          const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
          decode_block(a, block, strip, strip + 1, decoded);
          for (std::size_t k = 0; k < kSlices; ++k) {
            add_wide_slice<S, F>(a, b, block, decoded.codes[0][k], strip, k, row, end_row);
          }
        }
      }
    }
  }
}

// Where they do not: the sums of a slice's rows wait in y.

/// One block of slice k of a strip, decoded: sixteen rows of both lines.
template <class S, class F, std::size_t k>
struct ColumnSlice {
  static constexpr std::size_t kGroups = kBlock / 4;
  typename S::Bytes codes[2][kParts<S>][kGroups];
  typename S::F scales[2][kParts<S>], minimums[2][kParts<S>];

  ColumnSlice(const ColumnArgs& a, const ColumnBlock<F>& block, const std::uint8_t* const* runs,
              std::size_t strip) noexcept {
    const std::uint8_t* header = block.scales + strip * F::kStripScales;
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 8
      for (std::size_t g = 0; g < kGroups; ++g) {
        F::template column_codes<S, k>(runs + 4 * g, a.n_strips, strip, p * S::kLanes,
                                       codes[0][p][g], codes[1][p][g]);
      }
#pragma GCC unroll 2
      for (std::size_t line = 0; line < 2; ++line) {
        const std::size_t row = first_row(line, p);
        scales[line][p] = F::template column_scales<S>(header, row);
        if constexpr (F::kHasMinimum) {
          minimums[line][p] = F::template column_minimums<S>(header, row);
        }
      }
    }
  }

  static constexpr std::size_t first_row(std::size_t line, std::size_t part) noexcept {
    return line * kLineRows + k * kTileRows + part * S::kLanes;
  }

  /// Adds the block to the strip's outputs of one row.
  [[gnu::always_inline]] void add_to(float* y, const ActivationBlock& x) const noexcept {
    const auto scale = S::set(x.scale);
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 2
      for (std::size_t line = 0; line < 2; ++line) {
        float* out = y + first_row(line, p);
        const auto sum = S::to_float(dot(codes[line][p], x));
        auto total = S::fma(S::mul(sum, scales[line][p]), scale, S::load(out));
        if constexpr (F::kHasMinimum) {
          total = S::fma(minimums[line][p], S::set(x.scaled_sum), total);
        }
        S::store(out, total);
      }
    }
  }

  static typename S::I dot(const typename S::Bytes (&four)[kGroups],
                           const ActivationBlock& x) noexcept {
    if constexpr (F::kSigned) {
      return S::template dot_signed<kGroups>(four, x.values, x.sum);
    } else {
      return S::template dot<F::kMaxCode, kGroups>(S::set_int(-F::kOffset * x.sum), four, x.values);
    }
  }
};

/// The codes of a slice meet all rows.
template <class S, class F, std::size_t k>
void add_slice(const ColumnArgs& a, std::size_t b, const ColumnBlock<F>& block,
               const std::uint8_t* const* runs, std::size_t strip) noexcept {
  const ColumnSlice<S, F, k> slice(a, block, runs, strip);
  const auto* x = static_cast<const ActivationBlock*>(a.x);
  float* y = a.y + (strip - a.first_strip) * kStripRows;
  for_panels<S>(a.n_rows, [&](std::size_t first, std::size_t rows) {
    const ActivationBlock* panel = x + first * a.n_blocks + b * rows;
#pragma GCC unroll 1
    for (std::size_t r = 0; r < rows; ++r) slice.add_to(y + (first + r) * a.y_stride, panel[r]);
  });
}

template <class S, class F>
void narrow_strips(const ColumnArgs& a) noexcept {
  clear_outputs(a);
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    const BlockRuns<F> runs(block);
    for (std::size_t strip = a.first_strip; strip < a.end_strip; ++strip) {
      add_slice<S, F, 0>(a, b, block, runs.at, strip);
      add_slice<S, F, 1>(a, b, block, runs.at, strip);
      add_slice<S, F, 2>(a, b, block, runs.at, strip);
      add_slice<S, F, 3>(a, b, block, runs.at, strip);
    }
  }
}

template <class S, class F>
void columns_by_strips(const ColumnArgs& a) noexcept {
  if constexpr (S::kWide) {
    clear_outputs(a);
    if (a.n_rows <= S::kMaxRows) {
      wide_columns_of_few_rows<S, F>(a);
    } else {
      wide_columns_of_many_rows<S, F>(a);
    }
  } else {
    narrow_strips<S, F>(a);
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
