// Q2_K: 256 weights in 84 bytes, 2.6 bits each.
// weight = scale * sub_scale * code - minimum * sub_minimum, both of these of four bits, per 16.
#pragma once

#include "quant/fit.h"
#include "quant/half.h"
#include "quant/planes.h"

namespace rwkvcpp {

struct Q2_K {
  static constexpr WeightType kType = WeightType::kQ2_K;
  static constexpr std::size_t kInputs = 256;
  static constexpr std::size_t kSubBlocks = kInputs / kBlock;
  static constexpr std::size_t kRun = 16;  // weights that share a sub-scale
  static constexpr std::size_t kRuns = kInputs / kRun;
  static constexpr bool kIsFloat = false;
  static constexpr bool kHasMinimum = true;
  static constexpr bool kHalfScales = true;  // and sub-minimums
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0;
  static constexpr int kMaxCode = 3;
  static constexpr bool kHasColumns = false;

  struct Block {
    std::uint8_t subs[kRuns];  // low half: sub-scale, high half: sub-minimum
    std::uint8_t
        pairs[64];        // bits 2 k, 2 k + 1 of 32 bytes: sub-blocks k and, in the last 32, 4 + k
    std::uint16_t scale;  // fp16
    std::uint16_t minimum;  // fp16, taken off
  };
  struct Tile {
    std::uint16_t scales[kTileRows];          // fp16
    std::uint16_t minus_minimums[kTileRows];  // fp16
    std::int8_t subs[kSubBlocks][2][kTileRows];
    Plane pairs[kSubBlocks][2];
  };
  static_assert(sizeof(Block) == 84 && sizeof(Tile) == kTileRows * sizeof(Block));

  static void dequantize(const Block& b, float* out) noexcept {
    for (std::size_t run = 0; run < kRuns; ++run) {
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(b.subs[run] & 0x0F);
      const float minimum = fp16_to_fp32(b.minimum) * static_cast<float>(b.subs[run] >> 4);
      for (std::size_t i = run * kRun; i < (run + 1) * kRun; ++i) {
        out[i] = scale * static_cast<float>(code(b, i)) - minimum;
      }
    }
  }

  static void quantize(const float* in, Block& b) noexcept {
    float w[kInputs];
    for (std::size_t i = 0; i < kInputs; ++i) w[i] = std::fabs(in[i]);
    Fits fits(in, w, {-0.5f, 0.1f, 15, true});
    finish(in, fits, fit::round_to_peak(fits.scales, kMaxSub),
           fit::round_to_peak(fits.minimums, kMaxSub), b);
  }

  static void quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
    const float mean_square = fit::sum_of_squares(in, kInputs) / static_cast<float>(kInputs);
    float w[kInputs], weights[kRuns];
    for (std::size_t run = 0; run < kRuns; ++run) {
      const std::size_t at = run * kRun;
      weights[run] = fit::weigh(in + at, importances + at, mean_square, kRun, w + at);
    }
    Fits fits(in, w, fit::kWeightedSearch);
    finish(in, fits, fit::fit_positive<kRuns>(fits.scales, weights, kMaxSub),
           fit::fit_positive<kRuns>(fits.minimums, weights, kMaxSub), b);
  }

  static void pack(const Block (&rows)[kTileRows], Tile& tile) noexcept {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      const Block& b = rows[r];
      tile.scales[r] = b.scale;
      tile.minus_minimums[r] = b.minimum ^ 0x8000u;
      for (std::size_t s = 0; s < kSubBlocks; ++s) {
        tile.subs[s][0][r] = static_cast<std::int8_t>(b.subs[2 * s]);
        tile.subs[s][1][r] = static_cast<std::int8_t>(b.subs[2 * s + 1]);
        put_pairs(b.pairs + s / 4 * kBlock, static_cast<int>(s % 4 * 2), r, tile.pairs[s]);
      }
    }
  }

  template <class S>
  static typename S::F scales(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.scales + lane);
  }
  template <class S>
  static typename S::I sub_scales(const Tile& tile, std::size_t sub, std::size_t half,
                                  std::size_t lane) noexcept {
    return S::bit_and(S::load_i8(tile.subs[sub][half] + lane), S::set_int(0x0F));
  }
  template <class S>
  static typename S::F minimums(const Tile& tile, std::size_t, std::size_t lane) noexcept {
    return S::load_f16(tile.minus_minimums + lane);
  }
  template <class S>
  static typename S::I sub_minimums(const Tile& tile, std::size_t sub, std::size_t half,
                                    std::size_t lane) noexcept {
    const auto both = S::load_i8(tile.subs[sub][half] + lane);
    return S::bit_and(S::template shift_right<4>(both), S::set_int(0x0F));
  }
  template <class S>
  static void codes(const Tile& tile, std::size_t sub, std::size_t lane,
                    typename S::Bytes (&out)[8]) noexcept {
    take_pairs<S, 0>(tile.pairs[sub], lane, out);
  }

 private:
  static constexpr int kMaxSub = 15;

  /// Runs as they fit best each, before their scales and minimums are four bits.
  struct Fits {
    float scales[kRuns], minimums[kRuns];
    std::uint8_t codes[kInputs];

    Fits(const float* in, const float* w, const fit::AffineSearch& search) noexcept {
      fit::Affine<kRun> fits[kRuns];
      fit::fit_affine<kRun>(in, w, kMaxCode, search, fits);
      for (std::size_t run = 0; run < kRuns; ++run) {
        scales[run] = fits[run].scale;
        minimums[run] = fits[run].minimum;
        std::copy(fits[run].codes, fits[run].codes + kRun, codes + run * kRun);
      }
    }
  };

  static unsigned code(const Block& b, std::size_t i) noexcept {
    const std::size_t s = i / kBlock, l = i % kBlock;
    return (b.pairs[s / 4 * kBlock + l] >> (s % 4 * 2)) & 3u;
  }

  /// Scales and minimums as they are stored, and the codes that these want.
  static void finish(const float* in, Fits& fits, const fit::Positive<kRuns>& scales,
                     const fit::Positive<kRuns>& minimums, Block& b) noexcept {
    b.scale = fp32_to_fp16(scales.scale);
    b.minimum = fp32_to_fp16(minimums.scale);
    std::memset(b.pairs, 0, sizeof b.pairs);
    for (std::size_t run = 0; run < kRuns; ++run) {
      b.subs[run] = static_cast<std::uint8_t>(scales.codes[run] | minimums.codes[run] << 4);
      const float scale = fp16_to_fp32(b.scale) * static_cast<float>(scales.codes[run]);
      const float minimum = fp16_to_fp32(b.minimum) * static_cast<float>(minimums.codes[run]);
      std::uint8_t* codes = fits.codes + run * kRun;
      if (scale != 0.0f) {  // else the first fit's codes stay, as ggml leaves them
        fit::encode_affine(in + run * kRun, kRun, scale, minimum, kMaxCode, codes);
      }
    }
    for (std::size_t i = 0; i < kInputs; ++i) {
      const std::size_t s = i / kBlock;
      b.pairs[s / 4 * kBlock + i % kBlock] |=
          static_cast<std::uint8_t>(fits.codes[i] << (s % 4 * 2));
    }
  }
};

}  // namespace rwkvcpp
