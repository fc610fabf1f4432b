// IQ4_XS: 256 weights in 136 bytes, 4.25 bits each.
// weight = scale * (sub_scale - 32) * kIq4Values[nibble], a six-bit sub_scale per 32.
#pragma once

#include "quant/iq4_values.h"
#include "quant/lookup_tile.h"

namespace rwkvcpp {

struct IQ4_XS : LookupCodes<kIq4Values, 1> {
  static constexpr WeightType kType = WeightType::kIQ4_XS;

  struct Block {
    std::uint16_t scale;                           // fp16
    std::uint16_t high;                            // two bits of each sub-scale
    std::uint8_t low[kSubBlocks / 2];              // four bits
    std::uint8_t nibbles[kSubBlocks][kBlock / 2];  // byte i: weight i low, weight i + 16 high

    int sub_scale(std::size_t s) const noexcept {
      const int four = (low[s / 2] >> (s % 2 * 4)) & 0x0F;
      return (four | ((high >> (2 * s)) & 3) << 4) - 32;
    }
    void nibbles_of(std::size_t s, std::uint8_t (&out)[kBlock]) const noexcept {
      for (std::size_t i = 0; i < kBlock / 2; ++i) {
        out[i] = nibbles[s][i] & 0x0Fu;
        out[i + kBlock / 2] = nibbles[s][i] >> 4;
      }
    }
  };
  static_assert(sizeof(Block) == 136 && sizeof(Tile) == kTileRows * (sizeof(Block) + 2));

  static void quantize(const float* in, Block& b) noexcept {
    float w[kInputs];
    fit::square(in, kInputs, w);
    quantize_by(in, w, b);
  }

  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    float w[kInputs];
    const float mean_square =
        fit::sum_of_squares(in, kInputs) * (2.0f / static_cast<float>(kInputs));
    fit::weigh(in, importances, mean_square, kInputs, w);
    quantize_by(in, w, b);
  }

 private:
  /// Nibbles are for the scale before it is rounded to fp16, as ggml chooses them.
  static void quantize_by(const float* in, const float* w, Block& b) noexcept {
    std::memset(&b, 0, sizeof b);
    float scales[kSubBlocks];
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      scales[s] = fit_iq4<kBlock>(in + s * kBlock, w + s * kBlock);
    }
    const float scale = -fit::signed_peak(scales, kSubBlocks) / 32.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    b.scale = fp32_to_fp16(scale);
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const int sub_scale = std::clamp(fit::nearest(inverse * scales[s]), -32, 31);
      put_sub_scale(b, s, static_cast<unsigned>(sub_scale + 32));
      const float step = scale * static_cast<float>(sub_scale);
      std::uint8_t nibbles[kBlock];
      encode_iq4(in + s * kBlock, kBlock, step != 0.0f ? 1.0f / step : 0.0f, nibbles);
      for (std::size_t i = 0; i < kBlock / 2; ++i) {
        b.nibbles[s][i] = static_cast<std::uint8_t>(nibbles[i] | nibbles[i + kBlock / 2] << 4);
      }
    }
  }

  static void put_sub_scale(Block& b, std::size_t s, unsigned code) noexcept {
    b.low[s / 2] = static_cast<std::uint8_t>(b.low[s / 2] | (code & 0x0Fu) << (s % 2 * 4));
    b.high = static_cast<std::uint16_t>(b.high | code >> 4 << (2 * s));
  }
};

}  // namespace rwkvcpp
