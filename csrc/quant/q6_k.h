// Q6_K: 256 weights in 210 bytes. weight = scale * sub_scale * (code - 32), a
// sub_scale for every 16 weights.
//
// A tile holds eight sub-blocks of 32 inputs, one per activation block. With
// |code - 32| <= 32 and |sub_scale| <= 128 a sub-block's integer sum stays below
// 32 * 127 * 32 * 128 < 2^24: exact in a float.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "quant/half.h"
#include "quant/nibble_tile.h"

namespace rwkvcpp {

struct Q6_K {
  static constexpr WeightType kType = WeightType::kQ6_K;
  static constexpr std::size_t kInputs = 256;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kSigned = false;
  static constexpr bool kHalfScales = true;  // two integer sub-scales per 32 inputs
  static constexpr int kOffset = 32;
  static constexpr int kMaxCode = 63;
  static constexpr std::size_t kSubBlocks = 8;
  static constexpr bool kHasColumns = false;

  struct Block {
    std::uint8_t low[128];  // four low bits
    std::uint8_t high[64];  // two high bits
    std::int8_t sub_scales[16];
    std::uint16_t scale;  // fp16
  };
  struct SubTile {
    std::int8_t sub_scales[2][kTileRows];
    std::uint8_t nibbles[4][4 * kTileRows];  // as in NibbleTile
    std::uint8_t pairs[2][4 * kTileRows];    // bits 2 f, 2 f + 1 of pairs[p]: group 4 p + f
  };
  struct Tile {
    std::uint16_t scales[kTileRows];  // fp16
    SubTile sub[kSubBlocks];
  };
  static_assert(sizeof(Block) == 210 && sizeof(Tile) == kTileRows * sizeof(Block));

  /// Code (0 … 63) of weight i of the block: halves of 128, in each four runs of 32.
  static unsigned code(const Block& b, std::size_t i) noexcept {
    const std::size_t half = i / 128, run = i % 128 / 32, l = i % 32;
    const unsigned low = b.low[64 * half + 32 * (run % 2) + l] >> (run < 2 ? 0 : 4);
    const unsigned high = b.high[32 * half + l] >> (2 * run);
    return (low & 0x0Fu) | (high & 3u) << 4;
  }

  static void set_code(Block& b, std::size_t i, unsigned code) noexcept {
    const std::size_t half = i / 128, run = i % 128 / 32, l = i % 32;
    b.low[64 * half + 32 * (run % 2) + l] |=
        static_cast<std::uint8_t>((code & 0x0Fu) << (run < 2 ? 0 : 4));
    b.high[32 * half + l] |= static_cast<std::uint8_t>((code >> 4) << (2 * run));
  }

  static void dequantize(const Block& b, float* out) noexcept {
    const float scale = fp16_to_fp32(b.scale);
    for (std::size_t i = 0; i < kInputs; ++i) {
      const float step = scale * static_cast<float>(b.sub_scales[i / 16]);
      out[i] = step * static_cast<float>(static_cast<int>(code(b, i)) - 32);
    }
  }

  static void quantize(const float* in, Block& b) noexcept;

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    std::memset(&tile, 0, sizeof tile);
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile.scales[r] = rows[r].scale;
      for (std::size_t s = 0; s < kSubBlocks; ++s) pack_row(rows[r], s, r, tile.sub[s]);
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::I sub_scales(const Tile& tile, std::size_t sub, std::size_t half,
                                  std::size_t lane) noexcept {
    return S::load_i8(tile.sub[sub].sub_scales[half] + lane);
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    for (std::size_t j = 0; j < 4; ++j) {
      const auto both = S::load_bytes(tile.sub[sub].nibbles[j] + 4 * lane);
      out[j] = S::template field<0>(both, 0x0F);
      out[j + 4] = S::template field<4>(both, 0x0F);
    }
    for (std::size_t p = 0; p < 2; ++p) {
      const auto pairs = S::load_bytes(tile.sub[sub].pairs[p] + 4 * lane);
      out[4 * p] = S::or_field(out[4 * p], S::template field<-4>(pairs, 0x30));
      out[4 * p + 1] = S::or_field(out[4 * p + 1], S::template field<-2>(pairs, 0x30));
      out[4 * p + 2] = S::or_field(out[4 * p + 2], S::template field<0>(pairs, 0x30));
      out[4 * p + 3] = S::or_field(out[4 * p + 3], S::template field<2>(pairs, 0x30));
    }
  }

 private:
  static void pack_row(const Block& b, std::size_t s, std::size_t r, SubTile& out) noexcept {
    const std::size_t half = s / 4, run = s % 4;
    const std::uint8_t* low = b.low + 64 * half + 32 * (run % 2);
    const std::uint8_t* high = b.high + 32 * half;
    const int low_shift = run < 2 ? 0 : 4;
    const int high_shift = static_cast<int>(2 * run);
    out.sub_scales[0][r] = b.sub_scales[2 * s];
    out.sub_scales[1][r] = b.sub_scales[2 * s + 1];
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned first = (low[i] >> low_shift) & 0x0Fu;
      const unsigned second = (low[i + 16] >> low_shift) & 0x0Fu;
      out.nibbles[i / 4][4 * r + i % 4] = static_cast<std::uint8_t>(first | second << 4);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      const unsigned pair = (high[i] >> high_shift) & 3u;
      out.pairs[i / 16][4 * r + i % 4] |= static_cast<std::uint8_t>(pair << (2 * (i % 16 / 4)));
    }
  }
};

namespace q6_k {

inline int nearest(float x) noexcept { return static_cast<int>(std::nearbyint(x)); }

struct Fit {
  float scale;
  int codes[16];  // -32 … 31
};

/// The scale that fits 16 weights to codes -32 … 31 best, weighting each by its
/// square: 19 candidates around peak / -32.
inline Fit fit(const float* x) noexcept {
  float peak = 0.0f;
  for (int i = 0; i < 16; ++i) {
    if (std::fabs(x[i]) > std::fabs(peak)) peak = x[i];
  }
  Fit best{0.0f, {}};
  std::fill(best.codes, best.codes + 16, -32);
  if (std::fabs(peak) < 1e-15f) return best;

  float gain = 0.0f;
  for (int s : {0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
    const float inverse = -(32.0f + 0.1f * static_cast<float>(s)) / peak;
    Fit fit{};
    float sum_wxl = 0.0f, sum_wl2 = 0.0f;
    for (int i = 0; i < 16; ++i) {
      const float w = x[i] * x[i];
      fit.codes[i] = std::clamp(nearest(inverse * x[i]), -32, 31);
      const auto l = static_cast<float>(fit.codes[i]);
      sum_wxl += w * x[i] * l;
      sum_wl2 += w * l * l;
    }
    if (s != 0 && !(sum_wl2 > 0.0f && sum_wxl * sum_wxl > gain * sum_wl2)) continue;
    fit.scale = sum_wl2 != 0.0f ? sum_wxl / sum_wl2 : 0.0f;
    gain = fit.scale * sum_wxl;
    best = fit;
  }
  return best;
}

}  // namespace q6_k

inline void Q6_K::quantize(const float* in, Block& b) noexcept {
  std::memset(&b, 0, sizeof b);
  q6_k::Fit fits[16];
  float peak = 0.0f;
  for (std::size_t g = 0; g < 16; ++g) {
    fits[g] = q6_k::fit(in + 16 * g);
    if (std::fabs(fits[g].scale) > std::fabs(peak)) peak = fits[g].scale;
  }
  if (std::fabs(peak) < 1e-15f) return;
  const float inverse = -128.0f / peak;
  b.scale = fp32_to_fp16(1.0f / inverse);
  for (std::size_t g = 0; g < 16; ++g) {
    const int sub_scale = std::min(127, q6_k::nearest(inverse * fits[g].scale));
    b.sub_scales[g] = static_cast<std::int8_t>(sub_scale);
  }
  for (std::size_t i = 0; i < kInputs; ++i) {
    const float step = fp16_to_fp32(b.scale) * static_cast<float>(b.sub_scales[i / 16]);
    // Under a step of zero the first fit's code stays, as ggml leaves it.
    const int code = step != 0.0f ? std::clamp(q6_k::nearest(in[i] / step), -32, 31)
                                  : fits[i / 16].codes[i % 16];
    set_code(b, i, static_cast<unsigned>(code + 32));
  }
}

}  // namespace rwkvcpp
