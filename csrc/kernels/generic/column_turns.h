// Turns a panel of weights by columns (quant/columns.h) into tiles, and back: the same bits in the
// same bytes, in the other order. A strip's block is opened to one byte a code, tile by tile.
#pragma once

#include <cstring>

#include "kernels/generic/columns.h"
#include "quant/planes.h"

namespace rwkvcpp::kernels {
namespace {

inline constexpr std::size_t kStripTiles = kStripRows / kTileRows;
inline constexpr std::size_t kGroups = kBlock / 4;

/// The codes of a block of a strip: byte 4 r + i of [tile][g] is input 4 g + i of the tile's row r.
using StripCodes = Plane[kStripTiles][kGroups];

/// Lines to slices (interleave_slice), or, done twice, slices to lines: interleaving is of order
/// three.
template <class S>
void interleave_lines(const Plane (&in)[4], Plane (&out)[4]) noexcept {
  for (std::size_t lane = 0; lane < kTileRows; lane += S::kLanes) {
    const auto store = [&](Plane& to, typename S::Bytes bytes) {
      std::memcpy(to + 4 * lane, &bytes, sizeof bytes);
    };
    store(out[0], S::template interleave_slice<0>(in[0], in[1], in[2], in[3], lane));
    store(out[1], S::template interleave_slice<1>(in[0], in[1], in[2], in[3], lane));
    store(out[2], S::template interleave_slice<2>(in[0], in[1], in[2], in[3], lane));
    store(out[3], S::template interleave_slice<3>(in[0], in[1], in[2], in[3], lane));
  }
}

template <class S, class F, std::size_t k>
void open_slice(const ColumnBlock<F>& block, std::size_t n_strips, std::size_t strip,
                StripCodes& codes) noexcept {
  for (std::size_t g = 0; g < kGroups; ++g) {
    const std::uint8_t* runs[4];
    for (std::size_t i = 0; i < 4; ++i) runs[i] = block.codes + (4 * g + i) * block.run;
    for (std::size_t lane = 0; lane < kTileRows; lane += S::kLanes) {
      typename S::Bytes first, last;
      F::template column_codes<S, k>(runs, n_strips, strip, lane, first, last);
      std::memcpy(codes[k][g] + 4 * lane, &first, sizeof first);
      std::memcpy(codes[kSlices + k][g] + 4 * lane, &last, sizeof last);
    }
  }
}

template <class S, class F>
void open_strip(const ColumnBlock<F>& block, std::size_t n_strips, std::size_t strip,
                StripCodes& codes) noexcept {
  open_slice<S, F, 0>(block, n_strips, strip, codes);
  open_slice<S, F, 1>(block, n_strips, strip, codes);
  open_slice<S, F, 2>(block, n_strips, strip, codes);
  open_slice<S, F, 3>(block, n_strips, strip, codes);
}

template <class S, class F>
void open_tile(const typename F::Tile& tile, Plane (&codes)[kGroups]) noexcept {
  for (std::size_t lane = 0; lane < kTileRows; lane += S::kLanes) {
    typename S::Bytes parts[kGroups];
    F::template codes<S>(tile, 0, lane, parts);
    for (std::size_t g = 0; g < kGroups; ++g) {
      std::memcpy(codes[g] + 4 * lane, &parts[g], sizeof parts[g]);
    }
  }
}

/// The codes of four inputs, into their runs.
template <class S, class F>
void put_group(const ColumnBlock<F>& block, std::size_t n_strips, std::size_t strip,
               const StripCodes& codes, std::size_t g) noexcept {
  constexpr std::size_t kCodes = F::kStripCodes - F::kStripBits;
  for (std::size_t line = 0; line < kCodes / kLineRows; ++line) {
    Plane slices[kSlices], between[kSlices], lines[4];
    F::template column_slices<S>(codes, g, line, slices);
    interleave_lines<S>(slices, between);
    interleave_lines<S>(between, lines);
    for (std::size_t i = 0; i < 4; ++i) {
      std::uint8_t* run = block.codes + (4 * g + i) * block.run;
      std::memcpy(run + strip * kCodes + line * kLineRows, lines[i], kLineRows);
    }
  }
  if constexpr (F::kStripBits > 0) {
    Plane bits;
    F::template column_bits<S>(codes, g, bits);
    for (std::size_t i = 0; i < 4; ++i) {
      std::uint8_t* to =
          block.codes + (4 * g + i) * block.run + n_strips * kCodes + strip * F::kStripBits;
      for (std::size_t q = 0; q < kTileRows; ++q) to[q] = bits[4 * q + i];
    }
  }
}

template <class S, class F>
void block_to_tiles(const TurnArgs& a, const ColumnBlock<F>& block, std::size_t b,
                    std::size_t strip) noexcept {
  StripCodes codes;
  open_strip<S, F>(block, a.n_strips, strip, codes);
  auto* tiles = static_cast<typename F::Tile*>(a.tiles) + strip * kStripTiles * a.n_blocks + b;
  for (std::size_t t = 0; t < kStripTiles; ++t) {
    typename F::Tile& tile = tiles[t * a.n_blocks];
    F::template put_tile_scales<S>(block.scales + strip * F::kStripScales, t * kTileRows, tile);
    F::template put_tile_codes<S>(codes[t], tile);
  }
}

template <class S, class F>
void block_to_columns(const TurnArgs& a, const ColumnBlock<F>& block, std::size_t b,
                      std::size_t strip) noexcept {
  StripCodes codes;
  const auto* tiles =
      static_cast<const typename F::Tile*>(a.tiles) + strip * kStripTiles * a.n_blocks + b;
  for (std::size_t t = 0; t < kStripTiles; ++t) {
    const typename F::Tile& tile = tiles[t * a.n_blocks];
    F::template put_column_scales<S>(tile, t * kTileRows, block.scales + strip * F::kStripScales);
    open_tile<S, F>(tile, codes[t]);
  }
  for (std::size_t g = 0; g < kGroups; ++g) put_group<S, F>(block, a.n_strips, strip, codes, g);
}

/// A tile of floats is sixteen of a run's weights.
template <class F, class Copy>
void for_float_runs(const TurnArgs& a, const ColumnBlock<F>& block, std::size_t b,
                    std::size_t strip, Copy copy) noexcept {
  auto* tiles = static_cast<typename F::Tile*>(a.tiles);
  for (std::size_t t = 0; t < kStripTiles; ++t) {
    auto* row = tiles + (strip * kStripTiles + t) * a.n_blocks * kBlock + b * kBlock;
    for (std::size_t i = 0; i < kBlock; ++i) {
      copy(row[i], block.codes + i * block.run + strip * F::kStripCodes + t * sizeof row[i]);
    }
  }
}

template <class S, class F>
void turn_to_tiles(const TurnArgs& a) noexcept {
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    for (std::size_t strip = 0; strip < a.n_strips; ++strip) {
      if constexpr (F::kIsFloat) {
        for_float_runs(a, block, b, strip, [](typename F::Tile& tile, const std::uint8_t* run) {
          std::memcpy(&tile, run, sizeof tile);
        });
      } else {
        block_to_tiles<S, F>(a, block, b, strip);
      }
    }
  }
}

template <class S, class F>
void turn_to_columns(const TurnArgs& a) noexcept {
  for (std::size_t b = 0; b < a.n_blocks; ++b) {
    const ColumnBlock<F> block(a.panel, a.n_blocks, a.n_strips, b);
    for (std::size_t strip = 0; strip < a.n_strips; ++strip) {
      if constexpr (F::kIsFloat) {
        for_float_runs(a, block, b, strip, [](const typename F::Tile& tile, std::uint8_t* run) {
          std::memcpy(run, &tile, sizeof tile);
        });
      } else {
        block_to_columns<S, F>(a, block, b, strip);
      }
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
