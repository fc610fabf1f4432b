// The sixteen values of IQ4_NL and IQ4_XS, close together where weights are many, and the
// scale that fits them.
#pragma once

#include "quant/fit.h"
#include "quant/planes.h"

namespace rwkvcpp {

inline constexpr LookupTable kIq4Values{
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};

/// The index of the nearest value, the larger of two.
inline std::uint8_t nearest_iq4(float x) noexcept {
  unsigned index = 0;
  for (std::size_t i = 0; i + 1 < 16; ++i) {
    const int twice_middle = kIq4Values.values[i] + kIq4Values.values[i + 1];
    index += x >= 0.5f * static_cast<float>(twice_middle) ? 1u : 0u;
  }
  return static_cast<std::uint8_t>(index);
}

inline void encode_iq4(const float* x, std::size_t n, float inverse,
                       std::uint8_t* nibbles) noexcept {
  for (std::size_t i = 0; i < n; ++i) nibbles[i] = nearest_iq4(inverse * x[i]);
}

/// The best of sixteen scales around the one that makes the peak the first value.
template <std::size_t n>
float fit_iq4(const float* x, const float* w) noexcept {
  const float peak = fit::signed_peak(x, n);
  if (std::fabs(peak) < fit::kSmallestPeak) return 0.0f;
  const auto moments = [&](float inverse) {
    std::uint8_t nibbles[n];
    encode_iq4(x, n, inverse, nibbles);
    fit::Moments m;
    for (std::size_t i = 0; i < n; ++i) {
      const auto value = static_cast<float>(kIq4Values.values[nibbles[i]]);
      m.xl += w[i] * value * x[i];
      m.ll += w[i] * value * value;
    }
    return m;
  };
  const auto first = static_cast<float>(kIq4Values.values[0]);
  fit::Moments m = moments(1.0f / (-peak / first));
  float scale = m.xl / m.ll, gain = scale * m.xl;
  for (int s = -7; s <= 7; ++s) {
    m = moments((static_cast<float>(s) + first) / peak);
    if (!(m.ll > 0.0f && m.xl * m.xl > gain * m.ll)) continue;
    scale = m.xl / m.ll;
    gain = scale * m.xl;
  }
  return scale;
}

}  // namespace rwkvcpp
