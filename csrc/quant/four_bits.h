// The codes of Q4_0 and Q4_1 blocks: byte i has weight i in its low half, weight i + 16 in its high
// one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/format.h"

namespace rwkvcpp {

inline void get_four_bits(const std::uint8_t* nibbles, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    codes[i] = nibbles[i] & 0x0F;
    codes[i + kBlock / 2] = nibbles[i] >> 4;
  }
}

inline void put_four_bits(const std::uint8_t* codes, std::uint8_t* nibbles) noexcept {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    nibbles[i] = static_cast<std::uint8_t>(codes[i] | codes[i + kBlock / 2] << 4);
  }
}

}  // namespace rwkvcpp
