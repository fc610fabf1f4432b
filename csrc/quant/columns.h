// Weights by columns, for a matrix many of whose inputs are zero: what would meet a
// zero can be left unread (docs/sparse.md).
//
// Rows go in strips of 128, strips in panels. A panel holds the scales of all its blocks of
// 32 inputs, which are always read, then input after input the codes of all its rows. An
// input that is left out leaves out a whole run:
//
//   scales | block 0: strips 0, 1, … | block 1 | …
//   codes  | block 0: run of input 0 | run of input 1 | … | input 31 | block 1 | …
//
//   a run: the codes of strips 0, 1, …, then their fifth bits where a format has them
//
// A strip's codes are lines of 64 bytes. Byte 16 l + 4 k + j of a line belongs to row
// 16 k + 4 l + j of 64, so that interleaving four lines by bytes and by words, as registers
// of any width do it in place, gives sixteen rows of four inputs in order. Nibbles: the low
// ones are rows 0 … 63 of the strip, the high ones 64 … 127. Int8: two lines. Bit 4 h + k of
// byte q of the fifth bits: row 64 h + 16 k + q.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/format.h"

namespace rwkvcpp {

inline constexpr std::size_t kPanelRows = 4 * kStripRows;  // at most
inline constexpr std::size_t kLineRows = 64;
inline constexpr std::size_t kSlices = 4;  // of 16 rows in a line

/// The row of byte `at` of a line.
constexpr std::size_t row_of_byte(std::size_t at) noexcept {
  const std::size_t l = at / 16, k = at / 4 % 4, j = at % 4;
  return 16 * k + 4 * l + j;
}

/// One block of 32 inputs in a panel of weights of format F.
template <class F>
struct ColumnBlock {
  std::uint8_t* scales;  // kStripScales bytes a strip
  std::uint8_t* codes;   // 32 runs
  std::size_t run;       // bytes

  ColumnBlock(const void* panel, std::size_t n_blocks, std::size_t n_strips,
              std::size_t block) noexcept
      : run(n_strips * F::kStripCodes) {
    auto* start = static_cast<std::uint8_t*>(const_cast<void*>(panel));
    scales = start + block * n_strips * F::kStripScales;
    codes = start + n_blocks * n_strips * F::kStripScales + block * kBlock * run;
  }
};

/// Transposes an 8 x 8 matrix of bits: bit k of byte i goes to bit i of byte k.
constexpr std::uint64_t transpose_bits(std::uint64_t m) noexcept {
  const auto swap = [&m](std::uint64_t mask, int distance) {
    const std::uint64_t changed = (m ^ (m >> distance)) & mask;
    m ^= changed ^ (changed << distance);
  };
  swap(0x00AA00AA00AA00AAu, 7);
  swap(0x0000CCCC0000CCCCu, 14);
  swap(0x00000000F0F0F0F0u, 28);
  return m;
}

/// The fifth bits of a strip: word[r] has those of row r, input i at bit i.
inline void pack_column_bits(const std::uint32_t (&words)[kStripRows], std::uint8_t* bits,
                             std::size_t run) noexcept {
  for (std::size_t q = 0; q < 16; ++q) {
    for (std::size_t eight = 0; eight < 4; ++eight) {  // of the inputs
      std::uint64_t square = 0;
      for (std::size_t t = 0; t < 8; ++t) {
        const std::uint32_t word = words[16 * t + q];
        square |= static_cast<std::uint64_t>((word >> (8 * eight)) & 0xFFu) << (8 * t);
      }
      square = transpose_bits(square);
      for (std::size_t i = 0; i < 8; ++i) {
        bits[(8 * eight + i) * run + q] = static_cast<std::uint8_t>(square >> (8 * i));
      }
    }
  }
}

/// The nibbles of a strip: byte i of rows[r] has inputs i (low) and 16 + i (high) of row r.
inline void pack_column_nibbles(const std::uint8_t* const (&rows)[kStripRows], std::uint8_t* codes,
                                std::size_t run) noexcept {
  for (std::size_t at = 0; at < kLineRows; ++at) {
    const std::uint8_t* first = rows[row_of_byte(at)];
    const std::uint8_t* last = rows[kLineRows + row_of_byte(at)];
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      const unsigned low = first[i], high = last[i];
      codes[i * run + at] = static_cast<std::uint8_t>((low & 0x0Fu) | high << 4);
      codes[(kBlock / 2 + i) * run + at] = static_cast<std::uint8_t>(low >> 4 | (high & 0xF0u));
    }
  }
}

}  // namespace rwkvcpp
