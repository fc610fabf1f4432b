// How scales and codes are fitted to weights where nobody else's bytes are wanted: the least
// squares of errors, each counted by w.
//
// Codes for many scales, the best scale (and minimum) for each by linear regression, and of these
// the one that leaves the least error; then codes and scale in turns, as long as that helps. Sums
// are kept in eight parts, which are added up in one order: compilers make vectors of them, and
// every machine the same numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "quant/fit.h"

namespace rwkvcpp::fit {

inline constexpr std::size_t kLanes = 8;

/// Terms of a sum, each added to the lane of its index.
struct LaneSum {
  float lanes[kLanes] = {};

  double total() const noexcept {
    double sum = 0.0;
    for (const float lane : lanes) sum += static_cast<double>(lane);
    return sum;
  }
};

/// To the nearest integer, halves to even, for |x| < 2^22.
inline float nearest_float(float x) noexcept {
  constexpr float kNoFraction = 0x1.8p23f;
  return (x + kNoFraction) - kNoFraction;
}

/// What codes l explain of x: of sum w x^2, the part that scale * l (+ minimum) takes away.
struct Explained {
  double gain = 0.0, scale = 0.0, minimum = 0.0;
};

/// Codes of a block while they are sought, as floats.
template <std::size_t n>
struct Candidate {
  float codes[n];

  template <class Code>
  void copy_to(Code* out) const noexcept {
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Code>(codes[i]);
  }

  void encode(const float* x, float minimum, float inverse, float low, float high) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
      codes[i] = std::min(std::max(nearest_float((x[i] - minimum) * inverse), low), high);
    }
  }

  Explained by_scale(const float* x, const float* w) const noexcept {
    LaneSum xl, ll;
    for (std::size_t i = 0; i < n; i += kLanes) {
      for (std::size_t k = 0; k < kLanes; ++k) {
        const float wl = w[i + k] * codes[i + k];
        xl.lanes[k] += wl * x[i + k];
        ll.lanes[k] += wl * codes[i + k];
      }
    }
    const double xl_total = xl.total(), ll_total = ll.total();
    if (!(ll_total > 0.0)) return {};
    return {xl_total * xl_total / ll_total, xl_total / ll_total, 0.0};
  }

  /// sum_w and sum_x: of w and of w x.
  Explained by_scale_and_minimum(const float* x, const float* w, double sum_w,
                                 double sum_x) const noexcept {
    LaneSum l, xl, ll;
    for (std::size_t i = 0; i < n; i += kLanes) {
      for (std::size_t k = 0; k < kLanes; ++k) {
        const float wl = w[i + k] * codes[i + k];
        l.lanes[k] += wl;
        xl.lanes[k] += wl * x[i + k];
        ll.lanes[k] += wl * codes[i + k];
      }
    }
    const double l_total = l.total(), xl_total = xl.total(), ll_total = ll.total();
    const double determinant = sum_w * ll_total - l_total * l_total;
    if (!(determinant > 0.0)) return {};
    const double scale = (sum_w * xl_total - sum_x * l_total) / determinant;
    const double minimum = (ll_total * sum_x - l_total * xl_total) / determinant;
    return {scale * xl_total + minimum * sum_x, scale, minimum};
  }
};

inline constexpr int kRounds = 3;  // of codes and scale in turns

/// weight = scale * code, codes -limit ... limit - 1.
template <std::size_t n>
Symmetric<n> closest_symmetric(const float* x, const float* w, int limit) noexcept {
  const float peak = signed_peak(x, n);
  if (std::fabs(peak) < kSmallestPeak) return {};

  const auto low = static_cast<float>(-limit), high = static_cast<float>(limit - 1);
  Explained best;
  Candidate<n> found{};
  const auto attempt = [&](float inverse) {
    Candidate<n> tried;
    tried.encode(x, 0.0f, inverse, low, high);
    const Explained explained = tried.by_scale(x, w);
    if (!(explained.gain > best.gain)) return false;
    best = explained;
    found = tried;
    return true;
  };
  for (int s = -10; s <= 10; ++s) attempt((low + 0.2f * static_cast<float>(s)) / peak);
  for (int round = 0; round < kRounds && best.scale != 0.0; ++round) {
    if (!attempt(static_cast<float>(1.0 / best.scale))) break;
  }
  Symmetric<n> fit{static_cast<float>(best.scale), {}};
  found.copy_to(fit.codes);
  return fit;
}

/// weight = scale * code + minimum, codes 0 ... limit.
template <std::size_t n>
struct WithMinimum {
  float scale, minimum;
  std::uint8_t codes[n];
};

template <std::size_t n>
WithMinimum<n> closest_with_minimum(const float* in, const float* w, int limit) noexcept {
  const auto [lowest, highest] = std::minmax_element(in, in + n);
  const float base = *lowest, range = *highest - base;
  if (!(range > 0.0f)) return {0.0f, base, {}};

  float x[n];  // from zero: what a minimum would explain of large numbers hides the rest
  LaneSum ws, xs;
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = in[i] - base;
    ws.lanes[i % kLanes] += w[i];
    xs.lanes[i % kLanes] += w[i] * x[i];
  }
  const double sum_w = ws.total(), sum_x = xs.total();
  const auto high = static_cast<float>(limit);
  Explained best;
  Candidate<n> found{};
  const auto attempt = [&](float minimum, float inverse) {
    Candidate<n> tried;
    tried.encode(x, minimum, inverse, 0.0f, high);
    const Explained explained = tried.by_scale_and_minimum(x, w, sum_w, sum_x);
    if (!(explained.gain > best.gain)) return false;
    best = explained;
    found = tried;
    return true;
  };
  for (int s = -18; s <= 18; ++s) {  // from the best minimum so far: there are better ones nearby
    const auto minimum = static_cast<float>(best.minimum);
    attempt(minimum, (high + 0.05f * static_cast<float>(s)) / (range - minimum));
  }
  for (int round = 0; round < kRounds && best.scale > 0.0; ++round) {
    if (!attempt(static_cast<float>(best.minimum), static_cast<float>(1.0 / best.scale))) break;
  }
  WithMinimum<n> fit{static_cast<float>(best.scale), static_cast<float>(best.minimum) + base, {}};
  found.copy_to(fit.codes);
  return fit;
}

}  // namespace rwkvcpp::fit
