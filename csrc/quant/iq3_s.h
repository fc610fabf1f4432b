// IQ3_S: 256 weights in 110 bytes, 3.4 bits each.
// weight = +- scale * (2 sub_scale + 1) * (2 level + 1), a four-bit sub_scale per 32.
//
// Four levels are an entry of a codebook of 512: eight bits of its index here, the ninth
// apart. Every weight has a sign of its own.
#pragma once

#include "quant/iq3_codebooks.h"
#include "quant/lookup_tile.h"

namespace rwkvcpp {

/// By sign and level.
inline constexpr LookupTable kIq3SValues{
    {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15}};

struct IQ3_S : LookupCodes<kIq3SValues, 1> {
  static constexpr WeightType kType = WeightType::kIQ3_S;

  struct Block {
    std::uint16_t scale;            // fp16
    std::uint8_t low[kInputs / 4];  // of the codebook's indices
    std::uint8_t high[kSubBlocks];  // bit q: of index 8 s + q
    std::uint8_t signs[kSubBlocks][kBlock / 8];
    std::uint8_t sub_scales[kSubBlocks / 2];

    int sub_scale(std::size_t s) const noexcept {
      return 2 * ((sub_scales[s / 2] >> (s % 2 * 4)) & 0x0F) + 1;
    }
    void nibbles_of(std::size_t s, std::uint8_t (&out)[kBlock]) const noexcept {
      for (std::size_t i = 0; i < kBlock; ++i) {
        const std::size_t q = i / 4;
        const unsigned index = low[s * 8 + q] | ((high[s] >> q) & 1u) << 8;
        const unsigned sign = (signs[s][i / 8] >> (i % 8)) & 1u;
        out[i] = static_cast<std::uint8_t>(iq3_level(kIq3SCodebook[index], i % 4) | sign << 3);
      }
    }
  };
  static_assert(sizeof(Block) == 110 && sizeof(Tile) == kTileRows * 138);

  static void quantize(const float* in, Block& b) noexcept;
  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept;
};

}  // namespace rwkvcpp
