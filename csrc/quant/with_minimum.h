// Blocks with a scale and a minimum: Q4_1 and Q5_1, whose codes differ by a bit. How both are
// searched for, eight blocks at once.
#pragma once

#include <cstdint>
#include <span>

#include "quant/closest_fit.h"
#include "quant/fit.h"
#include "quant/half.h"

namespace rwkvcpp {

template <class F>
void put_with_minimum(float scale, float minimum, const std::uint8_t* codes,
                      typename F::Block& b) noexcept {
  b.scale = fp32_to_fp16(scale);
  b.minimum = fp32_to_fp16(minimum);
  F::set_codes(b, codes);
}

/// What llama-quantize makes with importances.
template <class F>
void weighted_with_minimum(const float* in, const float* importances, float mean_square,
                           std::span<typename F::Block> b) noexcept {
  float w[fit::kAbreast * kBlock];
  fit::weigh(in, importances, mean_square, b.size() * kBlock, w);
  fit::Affine<kBlock> fits[fit::kAbreast];
  fit::fit_affine<kBlock>(in, w, F::kMaxCode, fit::kWeightedSearch, {fits, b.size()});
  for (std::size_t k = 0; k < b.size(); ++k) {
    put_with_minimum<F>(fits[k].scale, -fits[k].minimum, fits[k].codes, b[k]);
  }
}

/// The least error that was found.
template <class F>
void closest_with_minimum(const float* in, const float* importances,
                          std::span<typename F::Block> b) noexcept {
  fit::WithMinimum<kBlock> fits[fit::kAbreast];
  fit::closest_with_minimum<kBlock>(in, importances, F::kMaxCode, {fits, b.size()});
  for (std::size_t k = 0; k < b.size(); ++k) {
    put_with_minimum<F>(fits[k].scale, fits[k].minimum, fits[k].codes, b[k]);
  }
}

}  // namespace rwkvcpp
