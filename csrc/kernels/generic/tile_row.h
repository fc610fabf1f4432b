// The unit of work of every product: one tile row, 16 outputs, times a panel of rows
// of x. It walks the block columns in order and keeps one float sum per output.
//
// Registers narrower than a tile hold it in parts of S::kLanes outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "quant/format.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
inline constexpr std::size_t kParts = kTileRows / S::kLanes;

/// Asks for what lies a few blocks behind sub-block `sub` of a tile: several rows keep a core busy
/// for longer than its own look-ahead reaches. A sub-block's share at a time, because a core drops
/// what it cannot keep track of. Always inlined: g++ takes a function that only prefetches for one
/// without effect.
template <class F>
[[gnu::always_inline]] inline void prefetch_after(const typename F::Tile* tile,
                                                  std::size_t sub) noexcept {
  constexpr std::size_t kDistance = 4096, kLine = 64;  // bytes
  constexpr std::size_t kLines = (sizeof(*tile) / F::kSubBlocks + kLine - 1) / kLine;
  const auto* ahead =
      reinterpret_cast<const std::uint8_t*>(tile) + kDistance + sub * kLines * kLine;
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLines; ++i) __builtin_prefetch(ahead + i * kLine);
}

/// Sums of one tile row: [part][row of x].
template <class S, std::size_t rows>
struct Sums {
  typename S::F values[kParts<S>][rows];

  void clear() noexcept {
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 16
      for (std::size_t r = 0; r < rows; ++r) values[p][r] = S::set(0.0f);
    }
  }
  void store(const MatmulArgs& a, std::size_t tile, std::size_t row) const noexcept {
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kParts<S>; ++p) {
#pragma GCC unroll 16
      for (std::size_t r = 0; r < rows; ++r) {
        S::store(a.y + (row + r) * a.y_stride + tile * kTileRows + p * S::kLanes, values[p][r]);
      }
    }
  }
};

/// The panel that starts at `row`, of floats: [input][row].
template <class F>
const float* float_panel(const MatmulArgs& a, std::size_t row) noexcept {
  return static_cast<const float*>(a.x) + row * a.n_units * F::kInputs;
}

}  // namespace
}  // namespace rwkvcpp::kernels
