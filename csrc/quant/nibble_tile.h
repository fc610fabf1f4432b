// The packed layout that Q4_0, Q4_1, Q5_0 and Q5_1 share: 16 rows of 32 weights.
//
// Inputs go in groups of four, as the four-way dot products of VNNI and NEON take
// them. Byte 4 r + i of nibbles[j] belongs to row r: its low half is input
// 4 j + i, its high half input 16 + 4 j + i, so packing moves whole words. The
// fifth bits lie in one byte plane: bit g of byte 4 r + i is that of input
// 4 g + i, one shift and one mask away from its nibble.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "quant/columns.h"
#include "quant/format.h"
#include "quant/planes.h"

namespace rwkvcpp {

template <bool kMinimum, bool kFifthBit>
struct NibbleTile {
  struct Minimums {
    std::uint16_t values[kTileRows];  // fp16
  };
  struct FifthBits {
    Plane plane;
  };
  std::uint16_t scales[kTileRows];  // fp16
  [[no_unique_address]] std::conditional_t<kMinimum, Minimums, NoField> minimums;
  [[no_unique_address]] std::conditional_t<kFifthBit, FifthBits, NoField> fifth_bits;
  Plane nibbles[4];
};

/// What the kernels need to know of a nibble format; `offset` is taken off every code.
template <bool minimum, bool fifth_bit, int offset>
struct NibbleCodes {
  static constexpr std::size_t kInputs = kBlock;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = minimum;
  static constexpr bool kSigned = false;
  static constexpr bool kHalfScales = false;
  static constexpr int kOffset = offset;
  static constexpr int kMaxCode = fifth_bit ? 31 : 15;
  static constexpr std::size_t kSubBlocks = 1;
  using Tile = NibbleTile<minimum, fifth_bit>;

  static constexpr bool kHasColumns = true;
  static constexpr std::size_t kStripScales = kStripRows * (minimum ? 4 : 2);  // bytes a block
  static constexpr std::size_t kStripBits = fifth_bit ? kStripRows / 8 : 0;    // an input
  static constexpr std::size_t kStripCodes = kStripRows / 2 + kStripBits;

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::F minimums(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.minimums.values + lane);
  }
  /// The codes of inputs 4 g … 4 g + 3 of S::kLanes rows, for g = 0 … 7.
  template <class S>
  static void codes(const Tile& tile, std::size_t, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    take_nibbles<S>(tile.nibbles, lane, out);
    if constexpr (fifth_bit) add_bits<S, 4>(tile.fifth_bits.plane, lane, out);
  }

  template <class S>
  static typename S::F column_scales(const std::uint8_t* strip, std::size_t lane) noexcept {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(strip) + lane);
  }
  template <class S>
  static typename S::F column_minimums(const std::uint8_t* strip, std::size_t lane) noexcept {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(strip) + kStripRows + lane);
  }
  /// The codes of four inputs for S::kLanes rows, from `lane` on, of slice k of both lines.
  template <class S, std::size_t k>
  static void column_codes(const std::uint8_t* const* runs, std::size_t n_strips, std::size_t strip,
                           std::size_t lane, typename S::Bytes& first,
                           typename S::Bytes& last) noexcept {
    const std::size_t line = strip * kLineRows;
    const auto both = S::template interleave_slice<k>(runs[0] + line, runs[1] + line,
                                                      runs[2] + line, runs[3] + line, lane);
    first = S::template field<0>(both, 0x0F);
    last = S::template field<4>(both, 0x0F);
    if constexpr (fifth_bit) {
      const std::size_t at = n_strips * kLineRows + strip * kStripBits + lane;
      const auto bits = S::interleave(runs[0] + at, runs[1] + at, runs[2] + at, runs[3] + at);
      first = S::or_field(first, S::template field<static_cast<int>(k) - 4>(bits, 0x10));
      last = S::or_field(last, S::template field<static_cast<int>(k)>(bits, 0x10));
    }
  }
  // The pieces of turning (kernels/generic/column_turns.h): scales of the tile of rows from `row`
  // of a strip on, codes opened to bytes.
  template <class S>
  static void put_tile_scales(const std::uint8_t* strip, std::size_t row, Tile& tile) noexcept {
    const auto* scales = reinterpret_cast<const std::uint16_t*>(strip) + row;
    std::memcpy(tile.scales, scales, sizeof tile.scales);
    if constexpr (minimum)
      std::memcpy(tile.minimums.values, scales + kStripRows, sizeof tile.scales);
  }
  template <class S>
  static void put_column_scales(const Tile& tile, std::size_t row, std::uint8_t* strip) noexcept {
    auto* scales = reinterpret_cast<std::uint16_t*>(strip) + row;
    std::memcpy(scales, tile.scales, sizeof tile.scales);
    if constexpr (minimum)
      std::memcpy(scales + kStripRows, tile.minimums.values, sizeof tile.scales);
  }
  template <class S>
  static void put_tile_codes(const Plane (&codes)[8], Tile& tile) noexcept {
    for (std::size_t j = 0; j < 4; ++j) join_nibbles(codes[j], codes[j + 4], tile.nibbles[j]);
    if constexpr (fifth_bit) {
      gather_bits<8>([&](std::size_t g) -> const Plane& { return codes[g]; }, 4,
                     tile.fifth_bits.plane);
    }
  }
  /// The slices of a strip's line for the inputs of group g: both halves of the strip.
  template <class S, class Codes>
  static void column_slices(const Codes& codes, std::size_t g, std::size_t,
                            Plane (&out)[kSlices]) noexcept {
    for (std::size_t k = 0; k < kSlices; ++k) {
      join_nibbles(codes[k][g], codes[kSlices + k][g], out[k]);
    }
  }
  template <class S, class Codes>
  static void column_bits(const Codes& codes, std::size_t g, Plane& out) noexcept {
    gather_bits<8>([&](std::size_t tile) -> const Plane& { return codes[tile][g]; }, 4, out);
  }
  template <class Block>
  static void pack_strip(const Block (&rows)[kStripRows], std::size_t n_strips, std::size_t strip,
                         const auto& out) noexcept {
    const std::uint8_t* nibbles[kStripRows];
    [[maybe_unused]] std::uint32_t words[kStripRows];
    auto* scales = reinterpret_cast<std::uint16_t*>(out.scales + strip * kStripScales);
    for (std::size_t r = 0; r < kStripRows; ++r) {
      scales[r] = rows[r].scale;
      if constexpr (minimum) scales[kStripRows + r] = rows[r].minimum;
      if constexpr (fifth_bit) {
        nibbles[r] = rows[r].codes.nibbles;
        words[r] = rows[r].codes.fifth_word();
      } else {
        nibbles[r] = rows[r].nibbles;
      }
    }
    pack_column_nibbles(nibbles, out.codes + strip * kLineRows, out.run);
    if constexpr (fifth_bit) {
      pack_column_bits(words, out.codes + n_strips * kLineRows + strip * kStripBits, out.run);
    }
  }
};

/// Transposes 4-byte words: word j of row r goes to out[j] at row r.
template <std::size_t n_words>
static inline void interleave_words(const std::uint8_t* const (&rows)[kTileRows],
                                    std::uint8_t (&out)[n_words][4 * kTileRows]) noexcept {
  for (std::size_t r = 0; r < kTileRows; ++r) {
    for (std::size_t j = 0; j < n_words; ++j) std::memcpy(out[j] + 4 * r, rows[r] + 4 * j, 4);
  }
}

/// bits[r] holds the fifth bits of row r, input i at bit i.
static inline void pack_fifth_bits(const std::uint32_t (&bits)[kTileRows],
                                   std::uint8_t (&plane)[4 * kTileRows]) noexcept {
  for (std::size_t r = 0; r < kTileRows; ++r) {
    for (std::size_t i = 0; i < 4; ++i) {
      // Bits i, i + 4, … i + 28 gathered into one byte.
      std::uint32_t b = (bits[r] >> i) & 0x11111111u;
      b = (b | (b >> 3)) & 0x03030303u;
      b = (b | (b >> 6)) & 0x000F000Fu;
      plane[4 * r + i] = static_cast<std::uint8_t>(b | (b >> 12));
    }
  }
}

}  // namespace rwkvcpp
