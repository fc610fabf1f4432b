// How scales and codes are fitted to weights where nobody else's bytes are wanted: the least
// squares of errors, each counted by w.
//
// Codes for many scales, the best scale (and minimum) for each by linear regression, and of these
// the one that leaves the least error; then codes and scale in turns, as long as that helps. Eight
// blocks that follow each other are searched at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/eight.h"
#include "quant/fit.h"

namespace rwkvcpp::fit {

/// Of eight blocks: what codes explain of sum w x^2 when weights are scale * code + minimum.
struct Explained {
  Eight gain = 0.0f, scale = 0.0f, minimum = 0.0f;
  Eight from = 0.0f, inverse = 0.0f;  // the codes: (x - from) * inverse, rounded

  /// Takes over the lanes in which another explains more; whether there is any.
  bool take_better(const Explained& other) noexcept {
    const Mask better = gain < other.gain;
    gain = select(better, other.gain, gain);
    scale = select(better, other.scale, scale);
    minimum = select(better, other.minimum, minimum);
    from = select(better, other.from, from);
    inverse = select(better, other.inverse, inverse);
    return any(better);
  }

  /// Numbers to their codes.
  template <std::size_t n>
  void encode(Abreast<n>& x, const CodeRange& codes) const noexcept {
    for (std::size_t i = 0; i < n; ++i) x[i] = codes.nearest((x[i] - from) * inverse);
  }
};

inline constexpr int kRounds = 3;  // of codes and scale in turns

/// weight = scale * code, codes -limit ... limit - 1, of eight blocks.
template <std::size_t n>
Explained closest_scale(const Abreast<n>& x, const Abreast<n>& w, const CodeRange& codes,
                        int limit) noexcept {
  const auto explained = [&](const Eight& inverse) {
    Eight xl = 0.0f, ll = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      const Eight l = codes.nearest(inverse * x[i]);
      const Eight wl = w[i] * l;
      xl += wl * x[i];
      ll += wl * l;
    }
    const Eight scale = xl / ll;  // no number where all codes are zero, and so is the gain
    return Explained{scale * xl, scale, 0.0f, 0.0f, inverse};
  };
  const Eight peak = signed_peak(x);
  const Mask zeros = abs(peak) < kSmallestPeak;
  Explained best;
  for (int s = -10; s <= 10; ++s) {
    const float steps = 0.2f * static_cast<float>(s) - static_cast<float>(limit);
    best.take_better(explained(select(zeros, 0.0f, Eight(steps) / peak)));
  }
  for (int round = 0; round < kRounds; ++round) {
    if (!best.take_better(explained(select(zeros, 0.0f, Eight(1.0f) / best.scale)))) break;
  }
  return best;
}

/// The same for blocks that follow each other.
template <std::size_t n>
void closest_symmetric(const float* weights, const float* importances, int limit,
                       std::span<Symmetric<n>> fits) noexcept {
  const CodeRange codes(-limit, limit - 1);
  for (std::size_t first = 0; first < fits.size(); first += kAbreast) {
    Abreast<n> x(weights, first, fits.size());
    const Explained best =
        closest_scale(x, Abreast<n>(importances, first, fits.size()), codes, limit);
    best.encode(x, codes);
    for (std::size_t k = first; k < std::min(first + kAbreast, fits.size()); ++k) {
      fits[k].scale = best.scale[k - first];
      x.take(k - first, fits[k].codes);
    }
  }
}

/// weight = scale * code + minimum, codes 0 ... limit.
template <std::size_t n>
struct WithMinimum {
  float scale, minimum;
  std::uint8_t codes[n];
};

/// Scale and minimum of eight blocks whose smallest weight is zero and whose largest is `range`.
template <std::size_t n>
Explained closest_line(const Abreast<n>& x, const Abreast<n>& w, const Eight& range,
                       const CodeRange& codes, int limit) noexcept {
  Eight sum_w = 0.0f, sum_x = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  const auto explained = [&](const Eight& from, const Eight& inverse) {
    Eight sum_l = 0.0f, xl = 0.0f, ll = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      const Eight l = codes.nearest((x[i] - from) * inverse);
      const Eight wl = w[i] * l;
      sum_l += wl;
      xl += wl * x[i];
      ll += wl * l;
    }
    const Eight mean_l = sum_l / sum_w;
    const Eight gained = xl - mean_l * sum_x;  // what x and l have off their means in common
    const Eight scale = gained / (ll - mean_l * sum_l);
    return Explained{scale * gained, scale, (sum_x - scale * sum_l) / sum_w, from, inverse};
  };
  const auto high = static_cast<float>(limit);
  const Mask flat = range < kSmallestPeak;
  Explained best;
  for (int s = -18; s <= 18; ++s) {  // from the best minimum so far: there are better ones nearby
    const Eight inverse = Eight(high + 0.05f * static_cast<float>(s)) / (range - best.minimum);
    best.take_better(explained(best.minimum, select(flat, 0.0f, inverse)));
  }
  for (int round = 0; round < kRounds; ++round) {
    const Eight inverse = Eight(1.0f) / best.scale;
    if (!best.take_better(explained(best.minimum, select(flat, 0.0f, inverse)))) break;
  }
  return best;
}

/// The same for blocks that follow each other, whatever they begin with.
template <std::size_t n>
void closest_with_minimum(const float* weights, const float* importances, int limit,
                          std::span<WithMinimum<n>> fits) noexcept {
  const CodeRange codes(0, limit);
  for (std::size_t first = 0; first < fits.size(); first += kAbreast) {
    Abreast<n> x(weights, first, fits.size());
    Eight base = x[0], highest = x[0];
    for (std::size_t i = 1; i < n; ++i) {
      base = min(base, x[i]);
      highest = max(highest, x[i]);
    }
    // What a minimum would explain of large numbers hides the rest.
    for (std::size_t i = 0; i < n; ++i) x[i] = x[i] - base;
    const Explained best =
        closest_line(x, Abreast<n>(importances, first, fits.size()), highest - base, codes, limit);
    best.encode(x, codes);
    for (std::size_t k = first; k < std::min(first + kAbreast, fits.size()); ++k) {
      fits[k].scale = best.scale[k - first];
      fits[k].minimum = best.minimum[k - first] + base[k - first];
      x.take(k - first, fits[k].codes);
    }
  }
}

}  // namespace rwkvcpp::fit
