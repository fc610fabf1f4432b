// Q4_1: 32 weights in 20 bytes. weight = scale * nibble + minimum.
#pragma once

#include <algorithm>

#include "quant/fit.h"
#include "quant/four_bits.h"
#include "quant/half.h"
#include "quant/nibble_tile.h"
#include "quant/with_minimum.h"

namespace rwkvcpp {

struct Q4_1 : NibbleCodes</*minimum=*/true, /*fifth_bit=*/false, /*offset=*/0> {
  static constexpr WeightType kType = WeightType::kQ4_1;

  struct Block {
    std::uint16_t scale;               // fp16
    std::uint16_t minimum;             // fp16
    std::uint8_t nibbles[kBlock / 2];  // byte i: weight i low, weight i + 16 high
  };
  static_assert(sizeof(Block) == 20 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    const float minimum = fp16_to_fp32(b.minimum);
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      out[i] = static_cast<float>(b.nibbles[i] & 0x0F) * scale + minimum;
      out[i + kBlock / 2] = static_cast<float>(b.nibbles[i] >> 4) * scale + minimum;
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    const fit::Range range = fit::range_of(in);
    const float minimum = range.low;
    const float scale = (range.high - minimum) / 15.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    b.minimum = fp32_to_fp16(minimum);
    const auto code = [&](float w) {
      return std::min(15, static_cast<int>((w - minimum) * inverse + 0.5f));
    };
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      b.nibbles[i] = static_cast<std::uint8_t>(code(in[i]) | code(in[i + kBlock / 2]) << 4);
    }
  }

  static void quantize_weighted(const float* in, const float* importances, float mean_square,
                                std::span<Block> b) noexcept {
    weighted_with_minimum<Q4_1>(in, importances, mean_square, b);
  }

  static void quantize_closest(const float* in, const float* importances,
                               std::span<Block> b) noexcept {
    closest_with_minimum<Q4_1>(in, importances, b);
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
      tile.minimums.values[r] = rows[r].minimum;
      nibbles[r] = rows[r].nibbles;
    }
    interleave_words(nibbles, tile.nibbles);
  }
};

}  // namespace rwkvcpp
