// Q4_0: 32 weights in 18 bytes. weight = scale * (nibble - 8).
#pragma once

#include <algorithm>
#include <cmath>

#include "quant/closest_fit.h"
#include "quant/fit.h"
#include "quant/four_bits.h"
#include "quant/half.h"
#include "quant/nibble_tile.h"

namespace rwkvcpp {

struct Q4_0 : NibbleCodes</*minimum=*/false, /*fifth_bit=*/false, /*offset=*/8> {
  static constexpr WeightType kType = WeightType::kQ4_0;

  struct Block {
    std::uint16_t scale;               // fp16
    std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high
  };
  static_assert(sizeof(Block) == 18 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      out[i] = static_cast<float>((b.nibbles[i] & 0x0F) - 8) * scale;
      out[i + kBlock / 2] = static_cast<float>((b.nibbles[i] >> 4) - 8) * scale;
    }
  }

  /// The weight of largest magnitude becomes exactly code 0 (-8).
  static void quantize(const float* in, Block& b) noexcept {
    const float peak = fit::signed_peak(in, kBlock);
    const float scale = peak / -8.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    const auto code = [&](float w) { return std::min(15, static_cast<int>(w * inverse + 8.5f)); };
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      b.nibbles[i] = static_cast<std::uint8_t>(code(in[i]) | code(in[i + kBlock / 2]) << 4);
    }
  }

  static void quantize_weighted(const float* in, const float* importances, float mean_square,
                                std::span<Block> b) noexcept {
    float w[fit::kAbreast * kBlock];
    fit::weigh(in, importances, mean_square, b.size() * kBlock, w);
    fit::Symmetric<kBlock> fits[fit::kAbreast];
    fit::fit_symmetric<kBlock>(in, w, 8, {fits, b.size()});
    for (std::size_t k = 0; k < b.size(); ++k) put(fits[k], b[k]);
  }

  static void quantize_closest(const float* in, const float* importances,
                               std::span<Block> b) noexcept {
    fit::Symmetric<kBlock> fits[fit::kAbreast];
    fit::closest_symmetric<kBlock>(in, importances, 8, {fits, b.size()});
    for (std::size_t k = 0; k < b.size(); ++k) put(fits[k], b[k]);
  }

  static float step(const Block& b, std::size_t) noexcept { return fp16_to_fp32(b.scale); }
  static void get_codes(const Block& b, std::uint8_t* codes) noexcept {
    get_four_bits(b.nibbles, codes);
  }
  static void set_codes(Block& b, const std::uint8_t* codes) noexcept {
    put_four_bits(codes, b.nibbles);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    const std::uint8_t* nibbles[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      nibbles[r] = rows[r].nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
  }

 private:
  static void put(const fit::Symmetric<kBlock>& fitted, Block& b) noexcept {
    b.scale = fp32_to_fp16(fitted.scale);
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      b.nibbles[i] = static_cast<std::uint8_t>((fitted.codes[i] + 8) |
                                               (fitted.codes[i + kBlock / 2] + 8) << 4);
    }
  }
};

}  // namespace rwkvcpp
