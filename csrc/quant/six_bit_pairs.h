// The sub-scales and sub-minimums of Q4_K and Q5_K: eight of each, six bits, in 12 bytes.
//
//   byte b, b < 4       low six bits: sub-scale b        high two: of sub-scale 4 + b
//   byte 4 + b          low six bits: sub-minimum b      high two: of sub-minimum 4 + b
//   byte 8 + b          low half: of sub-scale 4 + b     high half: of sub-minimum 4 + b
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkvcpp {

struct SixBitPairs {
  std::uint8_t bytes[12];

  unsigned sub_scale(std::size_t b) const noexcept {
    if (b < 4) return bytes[b] & 0x3Fu;
    return (bytes[4 + b] & 0x0Fu) | static_cast<unsigned>(bytes[b - 4] >> 6) << 4;
  }
  unsigned sub_minimum(std::size_t b) const noexcept {
    if (b < 4) return bytes[4 + b] & 0x3Fu;
    return static_cast<unsigned>(bytes[4 + b] >> 4) | static_cast<unsigned>(bytes[b] >> 6) << 4;
  }
  /// For b = 0 ... 7 in this order: each call adds to bytes that start as zeros.
  void put(std::size_t b, unsigned sub_scale, unsigned sub_minimum) noexcept {
    if (b < 4) {
      bytes[b] = static_cast<std::uint8_t>(sub_scale);
      bytes[4 + b] = static_cast<std::uint8_t>(sub_minimum);
    } else {
      bytes[4 + b] = static_cast<std::uint8_t>((sub_scale & 0x0Fu) | (sub_minimum & 0x0Fu) << 4);
      bytes[b - 4] = static_cast<std::uint8_t>(bytes[b - 4] | sub_scale >> 4 << 6);
      bytes[b] = static_cast<std::uint8_t>(bytes[b] | sub_minimum >> 4 << 6);
    }
  }
};

}  // namespace rwkvcpp
