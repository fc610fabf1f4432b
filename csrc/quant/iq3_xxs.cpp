#include "quant/iq3_xxs.h"

#include <algorithm>
#include <cmath>

#include "quant/fit.h"
#include "quant/iq3_fit.h"

namespace rwkvcpp {
namespace {

const Iq3Codebook& codebook() {
  static const Iq3Codebook made(
      kIq3XxsCodebook, {.tries = 15, .n_near = 2, .repeats_all = false, .smallest_peak = 1e-8f});
  return made;
}

constexpr float kWiden = 1.0125f;  // the scale, once all is rounded: errors are seen to be smaller

/// Magnitudes of eight weights, and seven signs. The eighth follows from an even number of minus
/// signs: where there are an odd number, the weight that costs least takes the wrong one.
unsigned split_signs(const float* in, const float* w, float* magnitudes) noexcept {
  unsigned signs = 0;
  std::size_t cheapest = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    const bool minus = !(in[i] >= 0.0f);
    magnitudes[i] = minus ? -in[i] : in[i];
    signs |= static_cast<unsigned>(minus) << i;
    if (w[i] * in[i] * in[i] < w[cheapest] * in[cheapest] * in[cheapest]) cheapest = i;
  }
  if (std::popcount(signs) % 2 != 0) {
    magnitudes[cheapest] = -magnitudes[cheapest];
    signs ^= 1u << cheapest;
  }
  return signs & 0x7Fu;
}

/// One sub-block, its sub-scale not yet known; what it is fitted best with.
float quantize_sub_block(const float* in, const float* w, std::size_t s, IQ3_XXS::Block& b) {
  float magnitudes[kBlock];
  unsigned signs[kBlock / 8];
  for (std::size_t k = 0; k < kBlock / 8; ++k) {
    signs[k] = split_signs(in + 8 * k, w + 8 * k, magnitudes + 8 * k);
  }
  const Iq3Fit fit = codebook().fit(magnitudes, w);
  if (fit.scale == 0.0f) return 0.0f;
  std::uint32_t word = 0;
  for (std::size_t k = 0; k < kBlock / 8; ++k) {
    word |= (fit.scale < 0.0f ? ~signs[k] & 0x7Fu : signs[k]) << (7 * k);
  }
  std::memcpy(b.words[s], &word, sizeof word);
  std::copy(fit.entries, fit.entries + 8, b.entries + 8 * s);
  return std::fabs(fit.scale);
}

void quantize_by(const float* in, const float* w, IQ3_XXS::Block& b) {
  std::memset(&b, 0, sizeof b);
  float scales[IQ3_XXS::kSubBlocks];
  for (std::size_t s = 0; s < IQ3_XXS::kSubBlocks; ++s) {
    scales[s] = quantize_sub_block(in + s * kBlock, w + s * kBlock, s, b);
  }
  const float peak = *std::max_element(scales, scales + IQ3_XXS::kSubBlocks);
  if (peak == 0.0f) {
    std::memset(&b, 0, sizeof b);
    return;
  }
  b.scale = fp32_to_fp16(peak / 31.0f * kWiden);
  for (std::size_t s = 0; s < IQ3_XXS::kSubBlocks; ++s) {
    const auto sub_scale = static_cast<std::uint32_t>(iq3_sub_scale(scales[s], peak));
    const std::uint32_t word = b.word(s) | sub_scale << 28;
    std::memcpy(b.words[s], &word, sizeof word);
  }
}

}  // namespace

void IQ3_XXS::quantize(const float* in, Block& b) noexcept {
  float w[kInputs];
  fit::square(in, kInputs, w);
  quantize_by(in, w, b);
}

void IQ3_XXS::quantize_weighted(const float* in, const float* importances, float,
                                Block& b) noexcept {
  float w[kInputs];
  const float mean_square = 2.0f * fit::sum_of_squares(in, kInputs) / static_cast<float>(kInputs);
  fit::weigh(in, importances, mean_square, kInputs, w);
  quantize_by(in, w, b);
}

}  // namespace rwkvcpp
