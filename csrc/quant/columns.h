// Weights by columns, for a matrix many of whose inputs are zero: what would meet a
// zero can be left unread (docs/sparse.md).
//
// Rows go in strips of 32, strips in panels. A panel walks the blocks of 32 inputs; of
// each it holds the scales of all its rows, then input after input the codes of all its
// rows. An input that is left out leaves out a whole run:
//
//   block 0 | scales of strips 0, 1, … | run of input 0 | run of input 1 | … | input 31 |
//   block 1 | …
//
//   a run: the codes of strips 0, 1, …, then their fifth bits where a format has them
//
// In a strip's nibbles row r is the low half of byte r and row 16 + r its high half; bit k
// of byte q of its fifth bits belongs to row q + 4 k.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/format.h"

namespace rwkvcpp {

inline constexpr std::size_t kHalfStrip = kStripRows / 2;

/// One block of 32 inputs in a panel of weights of format F.
template <class F>
struct ColumnBlock {
  std::uint8_t* scales;  // kStripScales bytes a strip
  std::uint8_t* codes;   // 32 runs
  std::size_t run;       // bytes

  ColumnBlock(const void* panel, std::size_t n_strips, std::size_t block) noexcept
      : run(n_strips * F::kStripCodes) {
    const std::size_t bytes = n_strips * F::kStripScales + kBlock * run;
    auto* start = static_cast<std::uint8_t*>(const_cast<void*>(panel)) + block * bytes;
    scales = start;
    codes = start + n_strips * F::kStripScales;
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
  for (std::size_t q = 0; q < 4; ++q) {
    for (std::size_t eight = 0; eight < 4; ++eight) {  // of the inputs
      std::uint64_t square = 0;
      for (std::size_t k = 0; k < 8; ++k) {
        square |= static_cast<std::uint64_t>((words[q + 4 * k] >> (8 * eight)) & 0xFFu) << (8 * k);
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
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    std::uint8_t* low = codes + i * run;
    std::uint8_t* high = codes + (kBlock / 2 + i) * run;
    for (std::size_t r = 0; r < kHalfStrip; ++r) {
      const unsigned first = rows[r][i], last = rows[kHalfStrip + r][i];
      low[r] = static_cast<std::uint8_t>((first & 0x0Fu) | last << 4);
      high[r] = static_cast<std::uint8_t>(first >> 4 | (last & 0xF0u));
    }
  }
}

}  // namespace rwkvcpp
