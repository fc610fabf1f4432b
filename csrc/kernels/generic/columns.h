// What the kernels on weights by columns (quant/columns.h) share.
#pragma once

#include <cstring>

#include "kernels/generic/active_inputs.h"
#include "kernels/generic/tile_row.h"
#include "quant/columns.h"

namespace rwkvcpp::kernels {
namespace {

constexpr std::size_t kCacheLine = 64;  // of a cache

/// Calls body(first, rows) for the panels of x.
template <class S, class Body>
void for_panels(std::size_t n_rows, Body body) noexcept {
  for (std::size_t first = 0; first < n_rows;) {
    const std::size_t rows = panel_rows(first, n_rows, S::kMaxRows);
    body(first, rows);
    first += rows;
  }
}

inline void clear_outputs(const ColumnArgs& a) noexcept {
  const std::size_t n = (a.end_strip - a.first_strip) * kStripRows;
  for (std::size_t r = 0; r < a.n_rows; ++r) {
    std::memset(a.y + r * a.y_stride, 0, n * sizeof(float));
  }
}

/// Asks for the codes that will be read of block b: lines too far apart for the processor to see
/// them coming. Always inlined: g++ takes a function that only prefetches for one without effect.
template <class F>
[[gnu::always_inline]] inline void prefetch_columns(const ColumnArgs& a, std::size_t b,
                                                    const ActiveInputs& inputs) noexcept {
  constexpr std::size_t kCodes = F::kStripCodes - F::kStripBits;
  const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
  const auto ask = [](const std::uint8_t* from, const std::uint8_t* to) {
    for (; from < to; from += kCacheLine) __builtin_prefetch(from);
  };
  for (std::size_t i = 0; i < inputs.n_active; ++i) {
    const std::uint8_t* run = block.codes + inputs.index[i] * block.run;
    ask(run + a.first_strip * kCodes, run + a.end_strip * kCodes);
    if constexpr (F::kStripBits > 0) {
      const std::uint8_t* bits = run + a.n_strips * kCodes;
      ask(bits + a.first_strip * F::kStripBits, bits + a.end_strip * F::kStripBits);
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
