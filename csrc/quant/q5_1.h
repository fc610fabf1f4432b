// Q5_1: 32 weights in 24 bytes. weight = scale * code + minimum, the code's fifth bit apart.
#pragma once

#include <algorithm>

#include "quant/half.h"
#include "quant/nibble_tile.h"

namespace rwkvcpp {

struct Q5_1 : NibbleCodes</*minimum=*/true, /*fifth_bit=*/true, /*offset=*/0> {
  static constexpr WeightType kType = WeightType::kQ5_1;

  struct Block {
    std::uint16_t scale;               // fp16
    std::uint16_t minimum;             // fp16
    std::uint8_t fifth_bits[4];        // bit i of the little-endian word: weight i
    std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high
  };
  static_assert(sizeof(Block) == 24 && sizeof(Tile) == kTileRows * sizeof(Block));

  static std::uint32_t fifth_bits(const Block& b) noexcept {
    std::uint32_t bits;
    std::memcpy(&bits, b.fifth_bits, sizeof bits);
    return bits;
  }

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    const float minimum = fp16_to_fp32(b.minimum);
    const std::uint32_t high = fifth_bits(b);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const unsigned nibble = i < 16 ? b.nibbles[i] & 0x0Fu : b.nibbles[i - 16] >> 4;
      out[i] = static_cast<float>(nibble | ((high >> i) & 1u) << 4) * scale + minimum;
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    const auto [low, top] = std::minmax_element(in, in + kBlock);
    const float minimum = *low;
    const float scale = (*top - minimum) / 31.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    b.minimum = fp32_to_fp16(minimum);
    std::uint32_t high = 0;
    std::memset(b.nibbles, 0, sizeof b.nibbles);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const auto code = static_cast<unsigned>((in[i] - minimum) * inverse + 0.5f);
      b.nibbles[i % 16] |= static_cast<std::uint8_t>((code & 0x0Fu) << (i < 16 ? 0 : 4));
      high |= ((code >> 4) & 1u) << i;
    }
    std::memcpy(b.fifth_bits, &high, sizeof high);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    const std::uint8_t* nibbles[kTileRows];
    std::uint32_t high[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      tile.minimums.values[r] = rows[r].minimum;
      high[r] = fifth_bits(rows[r]);
      nibbles[r] = rows[r].nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
    pack_fifth_bits(high, tile.fifth_bits.plane);
  }
};

}  // namespace rwkvcpp
