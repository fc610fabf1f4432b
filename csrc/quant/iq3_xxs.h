// IQ3_XXS: 256 weights in 98 bytes, 3.1 bits each.
// weight = +- scale / 4 * (2 sub_scale + 1) * magnitude, a four-bit sub_scale per 32.
//
// Four magnitudes are an entry of a codebook of 256. Of eight signs seven are stored: an
// even number of them is minus.
#pragma once

#include <bit>

#include "quant/iq3_codebooks.h"
#include "quant/lookup_tile.h"

namespace rwkvcpp {

/// By sign and level.
inline constexpr LookupTable kIq3XxsValues{
    {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62}};

struct IQ3_XXS : LookupCodes<kIq3XxsValues, 4> {
  static constexpr WeightType kType = WeightType::kIQ3_XXS;

  struct Block {
    std::uint16_t scale;                // fp16
    std::uint8_t entries[kInputs / 4];  // of the codebook
    std::uint8_t words[kSubBlocks][4];  // four times seven signs, the sub-scale above them

    std::uint32_t word(std::size_t s) const noexcept {
      std::uint32_t word;
      std::memcpy(&word, words[s], sizeof word);
      return word;
    }
    int sub_scale(std::size_t s) const noexcept {
      return static_cast<int>(2 * (word(s) >> 28) + 1);
    }
    void nibbles_of(std::size_t s, std::uint8_t (&out)[kBlock]) const noexcept {
      for (std::size_t i = 0; i < kBlock; ++i) {
        const unsigned seven = (word(s) >> (7 * (i / 8))) & 0x7Fu;
        const unsigned signs = seven | (static_cast<unsigned>(std::popcount(seven)) & 1u) << 7;
        const unsigned level = iq3_level(kIq3XxsCodebook[entries[s * 8 + i / 4]], i % 4);
        out[i] = static_cast<std::uint8_t>(level | ((signs >> (i % 8)) & 1u) << 3);
      }
    }
  };
  static_assert(sizeof(Block) == 98 && sizeof(Tile) == kTileRows * 138);

  static void quantize(const float* in, Block& b) noexcept;
  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept;
};

}  // namespace rwkvcpp
