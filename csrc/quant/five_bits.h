// The codes of Q5_0 and Q5_1 blocks: four bits in a nibble, the fifth in a word apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/format.h"

namespace rwkvcpp {

struct FiveBitCodes {
  std::uint8_t fifth_bits[4];        // bit i of the little-endian word: weight i
  std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high

  std::uint32_t fifth_word() const noexcept {
    std::uint32_t word;
    std::memcpy(&word, fifth_bits, sizeof word);
    return word;
  }
  int code(std::size_t i) const noexcept {
    const unsigned nibble = i < 16 ? nibbles[i] & 0x0Fu : nibbles[i - 16] >> 4;
    return static_cast<int>(nibble | ((fifth_word() >> i) & 1u) << 4);
  }

  /// Sets all codes, 0 … 31, to code_of(i).
  template <class CodeOf>
  void fill(CodeOf code_of) noexcept {
    std::uint32_t word = 0;
    std::memset(nibbles, 0, sizeof nibbles);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const auto code = static_cast<unsigned>(code_of(i));
      nibbles[i % 16] |= static_cast<std::uint8_t>((code & 0x0Fu) << (i < 16 ? 0 : 4));
      word |= ((code >> 4) & 1u) << i;
    }
    std::memcpy(fifth_bits, &word, sizeof word);
  }
};

}  // namespace rwkvcpp
