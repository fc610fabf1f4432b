// What Q4_K and Q5_K share: 256 weights in eight sub-blocks of 32,
// weight = scale * sub_scale * code - minimum * sub_minimum.
//
// A sub-scale has six bits and a scale eleven, so their product is exact in a float; so
// is the sum of a sub-block's codes times activations, below 32 * 127 * 31. Kernels
// therefore see each sub-block as one of Q4_1, with its own scale and minimum. A tile
// keeps the six bits as bytes: 3 % more than in a file, and nothing to unpack.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "quant/fit.h"
#include "quant/half.h"
#include "quant/planes.h"
#include "quant/six_bit_pairs.h"

namespace rwkvcpp {

template <bool fifth_bit>
struct KNibbles {
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kSubBlocks = kInputs / kBlock;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = true;
  static constexpr bool kHalfScales = false;
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0;
  static constexpr int kMaxCode = fifth_bit ? 31 : 15;
  static constexpr bool kHasColumns = false;
  static constexpr int kMaxSubScale = 63;

  struct FifthBits {
    std::uint8_t bytes[kBlock];  // bit s of byte i: weight i of sub-block s
  };
  struct Block {
    std::uint16_t scale;    // fp16
    std::uint16_t minimum;  // fp16, taken off
    SixBitPairs pairs;
    [[no_unique_address]] std::conditional_t<fifth_bit, FifthBits, NoField> fifth_bits;
    std::uint8_t nibbles[kInputs / 2];  // 32 bytes: low halves sub-block 2 k, high ones 2 k + 1
  };
  struct FifthPlanes {
    Plane sub[kSubBlocks];
  };
  struct Tile {
    std::uint16_t scales[kTileRows];          // fp16
    std::uint16_t minus_minimums[kTileRows];  // fp16
    std::int8_t sub_scales[kSubBlocks][kTileRows];
    std::int8_t sub_minimums[kSubBlocks][kTileRows];
    [[no_unique_address]] std::conditional_t<fifth_bit, FifthPlanes, NoField> fifth_bits;
    Plane nibbles[kSubBlocks][4];
  };

  static unsigned code(const Block& b, std::size_t i) noexcept {
    const std::size_t s = i / kBlock, l = i % kBlock;
    unsigned code = (b.nibbles[s / 2 * kBlock + l] >> (s % 2 * 4)) & 0x0Fu;
    if constexpr (fifth_bit) code |= ((b.fifth_bits.bytes[l] >> s) & 1u) << 4;
    return code;
  }

  static void dequantize(const Block& b, float* out) noexcept {
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(b.pairs.sub_scale(s));
      const float minimum = fp16_to_fp32(b.minimum) * static_cast<float>(b.pairs.sub_minimum(s));
      for (std::size_t i = s * kBlock; i < (s + 1) * kBlock; ++i) {
        out[i] = scale * static_cast<float>(code(b, i)) - minimum;
      }
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    float w[kInputs];
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const float* x = in + s * kBlock;
      const float usual = std::sqrt(fit::sum_of_squares(x, kBlock) / static_cast<float>(kBlock));
      for (std::size_t i = 0; i < kBlock; ++i) w[s * kBlock + i] = usual + std::fabs(x[i]);
    }
    SubFits fits(in, w, kSearch);
    finish(in, fits, fit::round_to_peak(fits.scales, kMaxSubScale),
           fit::round_to_peak(fits.minimums, kMaxSubScale), b);
  }

  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    const float mean_square = 2.0f * fit::sum_of_squares(in, kInputs) / static_cast<float>(kInputs);
    float w[kInputs], weights[kSubBlocks];
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const std::size_t at = s * kBlock;
      weights[s] = fit::weigh(in + at, importances + at, mean_square, kBlock, w + at);
    }
    SubFits fits(in, w, fit::kWeightedSearch);
    finish(in, fits, fit::fit_positive<kSubBlocks>(fits.scales, weights, kMaxSubScale),
           fit::fit_positive<kSubBlocks>(fits.minimums, weights, kMaxSubScale), b);
  }

  static float step(const Block& b, std::size_t i) noexcept {
    return fp16_to_fp32(b.scale) * static_cast<float>(b.pairs.sub_scale(i / kBlock));
  }
  static void get_codes(const Block& b, std::uint8_t* codes) noexcept {
    for (std::size_t i = 0; i < kInputs; ++i) codes[i] = static_cast<std::uint8_t>(code(b, i));
  }
  static void set_codes(Block& b, const std::uint8_t* codes) noexcept {
    if constexpr (fifth_bit) std::memset(b.fifth_bits.bytes, 0, kBlock);
    for (std::size_t s = 0; s < kSubBlocks; s += 2) {
      for (std::size_t l = 0; l < kBlock; ++l) {
        const unsigned low = codes[s * kBlock + l], high = codes[(s + 1) * kBlock + l];
        b.nibbles[s / 2 * kBlock + l] =
            static_cast<std::uint8_t>((low & 0x0Fu) | (high & 0x0Fu) << 4);
        if constexpr (fifth_bit) {
          b.fifth_bits.bytes[l] |= static_cast<std::uint8_t>((low >> 4 | high >> 4 << 1) << s);
        }
      }
    }
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const Block& b = rows[r];
      tile.scales[r] = b.scale;
      tile.minus_minimums[r] = b.minimum ^ 0x8000u;
      for (std::size_t s = 0; s < kSubBlocks; ++s) {
        tile.sub_scales[s][r] = static_cast<std::int8_t>(b.pairs.sub_scale(s));
        tile.sub_minimums[s][r] = static_cast<std::int8_t>(b.pairs.sub_minimum(s));
        put_nibbles(b.nibbles + s / 2 * kBlock, s % 2 * 4, r, tile.nibbles[s]);
        if constexpr (fifth_bit) {
          put_bits(b.fifth_bits.bytes, static_cast<int>(s), r, tile.fifth_bits.sub[s]);
        }
      }
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t sub, std::size_t lane) noexcept {
    return S::mul(S::load_f16(tile.scales + lane),
                  S::to_float(S::load_i8(tile.sub_scales[sub] + lane)));
  }
  template <class S>
  static typename S::F minimums(const Tile& tile, std::size_t sub, std::size_t lane) noexcept {
    return S::mul(S::load_f16(tile.minus_minimums + lane),
                  S::to_float(S::load_i8(tile.sub_minimums[sub] + lane)));
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    take_nibbles<S>(tile.nibbles[sub], lane, out);
    if constexpr (fifth_bit) add_bits<S, 4>(tile.fifth_bits.sub[sub], lane, out);
  }

 private:
  static constexpr fit::AffineSearch kSearch = fifth_bit
                                                   ? fit::AffineSearch{-0.5f, 0.1f, 15, false}
                                                   : fit::AffineSearch{-1.0f, 0.1f, 20, false};

  /// Sub-blocks as they fit best each, before their scales and minimums are six bits.
  struct SubFits {
    float scales[kSubBlocks], minimums[kSubBlocks];
    std::uint8_t codes[kInputs];

    SubFits(const float* in, const float* w, const fit::AffineSearch& search) noexcept {
      fit::Affine<kBlock> fits[kSubBlocks];
      fit::fit_affine<kBlock>(in, w, kMaxCode, search, fits);
      for (std::size_t s = 0; s < kSubBlocks; ++s) {
        scales[s] = fits[s].scale;
        minimums[s] = fits[s].minimum;
        std::copy(fits[s].codes, fits[s].codes + kBlock, codes + s * kBlock);
      }
    }
  };

  /// Scales and minimums as they are stored, and the codes that these want.
  static void finish(const float* in, SubFits& fits, const fit::Positive<kSubBlocks>& scales,
                     const fit::Positive<kSubBlocks>& minimums, Block& b) noexcept {
    b.scale = fp32_to_fp16(scales.scale);
    b.minimum = fp32_to_fp16(minimums.scale);
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      b.pairs.put(s, scales.codes[s], minimums.codes[s]);
    }
    for (std::size_t s = 0; s < kSubBlocks; ++s) {
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(b.pairs.sub_scale(s));
      const float minimum = fp16_to_fp32(b.minimum) * static_cast<float>(b.pairs.sub_minimum(s));
      if (scale == 0.0f) continue;  // the first fit's codes stay, as ggml leaves them
      fit::encode_affine(in + s * kBlock, kBlock, scale, minimum, kMaxCode,
                         fits.codes + s * kBlock);
    }
    set_codes(b, fits.codes);
  }
};

}  // namespace rwkvcpp
