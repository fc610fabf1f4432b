// Q5_0: 32 weights in 22 bytes. weight = scale * (code - 16), the code's fifth bit apart.
#pragma once

#include <algorithm>

#include "quant/half.h"
#include "quant/nibble_tile.h"
#include "quant/q4_0.h"

namespace rwkvcpp {

struct Q5_0 : NibbleCodes</*minimum=*/false, /*fifth_bit=*/true, /*offset=*/16> {
  static constexpr WeightType kType = WeightType::kQ5_0;

  struct Block {
    std::uint16_t scale;               // fp16
    std::uint8_t fifth_bits[4];        // bit i of the little-endian word: weight i
    std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high
  };
  static_assert(sizeof(Block) == 22 && sizeof(Tile) == kTileRows * sizeof(Block));

  static std::uint32_t fifth_bits(const Block& b) noexcept {
    std::uint32_t bits;
    std::memcpy(&bits, b.fifth_bits, sizeof bits);
    return bits;
  }

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    const std::uint32_t high = fifth_bits(b);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const unsigned nibble = i < 16 ? b.nibbles[i] & 0x0Fu : b.nibbles[i - 16] >> 4;
      const unsigned code = nibble | ((high >> i) & 1u) << 4;
      out[i] = static_cast<float>(static_cast<int>(code) - 16) * scale;
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    const float scale = Q4_0::signed_peak(in) / -16.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    std::uint32_t high = 0;
    std::memset(b.nibbles, 0, sizeof b.nibbles);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const auto code =
          static_cast<unsigned>(std::min(31, static_cast<int>(in[i] * inverse + 16.5f)));
      b.nibbles[i % 16] |= static_cast<std::uint8_t>((code & 0x0Fu) << (i < 16 ? 0 : 4));
      high |= (code >> 4) << i;
    }
    std::memcpy(b.fifth_bits, &high, sizeof high);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    const std::uint8_t* nibbles[kTileRows];
    std::uint32_t high[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      high[r] = fifth_bits(rows[r]);
      nibbles[r] = rows[r].nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
    pack_fifth_bits(high, tile.fifth_bits.plane);
  }
};

}  // namespace rwkvcpp
