// The planes of a tile: how the codes of 16 rows of 32 inputs lie, and come out again.
//
// Byte 4 r + i of a plane belongs to row r and to inputs i, 4 + i, ... 28 + i: one of
// every group of four. So one shift and one mask take the same group of all rows out.
//
//   nibbles[j]  low half: group j,  high half: group 4 + j
//   pairs[p]    bits 2 f, 2 f + 1: group 4 p + f
//   bits        bit g: group g
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "quant/format.h"

namespace rwkvcpp {

using Plane = std::uint8_t[4 * kTileRows];

struct NoField {};

/// What codes of four bits stand for.
struct LookupTable {
  std::int8_t values[16];
};

/// out[g] = codes of inputs 4 g ... 4 g + 3 of S::kLanes rows, for g = 0 ... 7.
template <class S>
void take_nibbles(const Plane (&nibbles)[4], std::size_t lane,
                  typename S::Bytes (&out)[8]) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    const auto both = S::load_bytes(nibbles[j] + 4 * lane);
    out[j] = S::template field<0>(both, 0x0F);
    out[j + 4] = S::template field<4>(both, 0x0F);
  }
}

/// The same of signed codes: what the table has for each nibble. (A table of this function's own,
/// because objects of instruction sets share no data.)
template <class S, LookupTable table>
void look_up_nibbles(const Plane (&nibbles)[4], std::size_t lane,
                     typename S::Bytes (&out)[8]) noexcept {
  static constexpr LookupTable kTable = table;
  take_nibbles<S>(nibbles, lane, out);
  for (auto& four : out) four = S::lookup(kTable.values, four);
}

/// The pairs, moved to bit `at`.
template <class S, int at>
void take_pairs(const Plane (&pairs)[2], std::size_t lane, typename S::Bytes (&out)[8]) noexcept {
  for (std::size_t p = 0; p < 2; ++p) {
    const auto all = S::load_bytes(pairs[p] + 4 * lane);
    out[4 * p] = S::template field<-at>(all, 3 << at);
    out[4 * p + 1] = S::template field<2 - at>(all, 3 << at);
    out[4 * p + 2] = S::template field<4 - at>(all, 3 << at);
    out[4 * p + 3] = S::template field<6 - at>(all, 3 << at);
  }
}

template <class S, int at>
void add_pairs(const Plane (&pairs)[2], std::size_t lane, typename S::Bytes (&codes)[8]) noexcept {
  typename S::Bytes high[8];
  take_pairs<S, at>(pairs, lane, high);
  for (std::size_t g = 0; g < 8; ++g) codes[g] = S::or_field(codes[g], high[g]);
}

template <class S, int at, std::size_t... g>
void add_bits(const Plane& bits, std::size_t lane, typename S::Bytes (&codes)[8],
              std::index_sequence<g...>) noexcept {
  const auto all = S::load_bytes(bits + 4 * lane);
  ((codes[g] = S::or_field(codes[g], S::template field<static_cast<int>(g) - at>(all, 1 << at))),
   ...);
}

/// Adds the bits to the codes, as bit `at`.
template <class S, int at>
void add_bits(const Plane& bits, std::size_t lane, typename S::Bytes (&codes)[8]) noexcept {
  add_bits<S, at>(bits, lane, codes, std::make_index_sequence<8>());
}

/// The low four bits of two planes of codes.
static inline void join_nibbles(const Plane& low, const Plane& high, Plane& out) noexcept {
  for (std::size_t i = 0; i < sizeof out; ++i) {
    out[i] = static_cast<std::uint8_t>((low[i] & 0x0Fu) | static_cast<unsigned>(high[i]) << 4);
  }
}

/// Bit j of every byte of out: bit `at` of plane(j).
template <std::size_t n, class PlaneOf>
void gather_bits(PlaneOf plane, int at, Plane& out) noexcept {
  for (std::size_t i = 0; i < sizeof out; ++i) {
    unsigned bits = 0;
    for (std::size_t j = 0; j < n; ++j) bits |= ((unsigned{plane(j)[i]} >> at) & 1u) << j;
    out[i] = static_cast<std::uint8_t>(bits);
  }
}

/// Four bytes' fields as one word.
static inline std::uint32_t word_field(const std::uint8_t* bytes, int shift,
                                       std::uint32_t mask) noexcept {
  std::uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return (word >> shift) & (mask * 0x01010101u);
}

/// Row r of the nibbles: inputs 0 ... 31 have the four bits of 32 bytes from `shift` on.
static inline void put_nibbles(const std::uint8_t* bytes, int shift, std::size_t r,
                               Plane (&nibbles)[4]) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    const std::uint32_t word =
        word_field(bytes + 4 * j, shift, 0x0F) | word_field(bytes + 16 + 4 * j, shift, 0x0F) << 4;
    std::memcpy(nibbles[j] + 4 * r, &word, sizeof word);
  }
}

static inline void put_pairs(const std::uint8_t* bytes, int shift, std::size_t r,
                             Plane (&pairs)[2]) noexcept {
  for (std::size_t p = 0; p < 2; ++p) {
    std::uint32_t word = 0;
    for (std::size_t f = 0; f < 4; ++f) {
      word |= word_field(bytes + 16 * p + 4 * f, shift, 3) << (2 * f);
    }
    std::memcpy(pairs[p] + 4 * r, &word, sizeof word);
  }
}

static inline void put_bits(const std::uint8_t* bytes, int shift, std::size_t r,
                            Plane& bits) noexcept {
  std::uint32_t word = 0;
  for (std::size_t g = 0; g < 8; ++g) word |= word_field(bytes + 4 * g, shift, 1) << g;
  std::memcpy(bits + 4 * r, &word, sizeof word);
}

}  // namespace rwkvcpp
