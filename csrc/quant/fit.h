// How scales and codes are fitted to weights, as ggml fits them: byte for byte.
//
// Every sum is float32, in the order of the elements, products from left to right and
// none fused with an addition: another order would now and then choose another code.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "quant/eight.h"

namespace rwkvcpp::fit {

inline constexpr float kSmallestPeak = 1e-15f;  // weights below it are zeros

/// To the nearest integer, halves to even, for |x| < 2^22: behind 1.5 * 2^23 a float's
/// mantissa has no place for a fraction.
inline int nearest(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0x1.8p23f);
  return static_cast<int>(bits & 0x7FFFFFu) - 0x400000;
}

/// The weight of largest magnitude, the first of equals, with its sign.
inline float signed_peak(const float* x, std::size_t n) noexcept {
  float peak = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(peak)) peak = x[i];
  }
  return peak;
}

struct Range {
  float low, high;
};

/// The smallest and the largest of a block of 32, the first of equals: zeros have signs.
inline Range range_of(const float* x) noexcept {
  constexpr std::size_t n = 32, lanes = 8;
  float low[lanes], high[lanes];
  for (std::size_t k = 0; k < lanes; ++k) low[k] = high[k] = x[k];
  for (std::size_t i = lanes; i < n; i += lanes) {
    for (std::size_t k = 0; k < lanes; ++k) {
      low[k] = std::min(low[k], x[i + k]);
      high[k] = std::max(high[k], x[i + k]);
    }
  }
  const float lowest = *std::min_element(low, low + lanes);
  const float highest = *std::max_element(high, high + lanes);
  const auto first = [&](float value) {
    return value == 0.0f ? *std::find(x, x + n, value) : value;
  };
  return {first(lowest), first(highest)};
}

inline float sum_of_squares(const float* x, std::size_t n) noexcept {
  float sum = 0.0f;
  for (std::size_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

/// How much an error of each weight counts where nothing else is known: large ones more.
inline void square(const float* x, std::size_t n, float* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * x[i];
}

/// How much an error of each weight counts: by its input's importance, and more for large
/// weights. Returns their sum.
inline float weigh(const float* x, const float* importances, float mean_square, std::size_t n,
                   float* out) noexcept {
  float sum = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = importances[i] * std::sqrt(mean_square + x[i] * x[i]);
    sum += out[i];
  }
  return sum;
}

/// sum w x l and sum w l^2, of which l = x / scale is best fitted: scale = xl / ll.
struct Moments {
  float xl = 0.0f, ll = 0.0f;

  void add(float w, float x, float l) noexcept {
    xl += w * x * l;
    ll += w * l * l;
  }
  Moments without(float w, float x, float l) const noexcept {
    return {xl - w * x * l, ll - w * l * l};
  }
  float scale() const noexcept { return ll > 0.0f ? xl / ll : 0.0f; }
  /// Whether these leave less error than others.
  bool better_than(const Moments& m) const noexcept { return xl * xl * m.ll > m.xl * m.xl * ll; }
};

template <std::size_t n>
struct Symmetric {
  float scale;
  std::int8_t codes[n];  // -limit ... limit - 1
};

/// weight = scale * code, of eight blocks: 19 scales are tried around the one that makes the peak
/// -limit.
template <std::size_t n>
struct SymmetricFit {
  Eight scale = 0.0f;
  Abreast<n> codes;

  SymmetricFit(const Abreast<n>& x, const Abreast<n>& w, int limit) noexcept {
    const CodeRange range(-limit, limit - 1);
    const auto whole = static_cast<float>(limit);
    const Eight peak = signed_peak(x);
    Eight gain = 0.0f, best = 0.0f;  // the inverse that codes are of
    for (const int s : {0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
      const Eight inverse = Eight(-(whole + 0.1f * static_cast<float>(s))) / peak;
      Eight xl = 0.0f, ll = 0.0f;
      for (std::size_t i = 0; i < n; ++i) {
        const Eight l = range.nearest(inverse * x[i]);
        xl += w[i] * x[i] * l;
        ll += w[i] * l * l;
      }
      const Eight found = select(ll > 0.0f, xl / ll, 0.0f);
      const Mask better = s == 0 ? all_lanes() : (ll > 0.0f) & (xl * xl > gain * ll);
      scale = select(better, found, scale);
      gain = select(better, found * xl, gain);
      best = select(better, inverse, best);
    }
    const Mask zeros = abs(peak) < kSmallestPeak;
    for (std::size_t i = 0; i < n; ++i) {
      codes[i] = select(zeros, -whole, range.nearest(best * x[i]));
    }
    scale = select(zeros, 0.0f, scale);
  }
};

/// The same for blocks that follow each other.
template <std::size_t n>
void fit_symmetric(const float* weights, const float* importances, int limit,
                   std::span<Symmetric<n>> fits) noexcept {
  for (std::size_t first = 0; first < fits.size(); first += kAbreast) {
    const Abreast<n> x(weights, first, fits.size()), w(importances, first, fits.size());
    const SymmetricFit<n> found(x, w, limit);
    for (std::size_t k = first; k < std::min(first + kAbreast, fits.size()); ++k) {
      fits[k].scale = found.scale[k - first];
      found.codes.take(k - first, fits[k].codes);
    }
  }
}

/// Moves one code after another to where the scale that all others want would have it, while
/// that helps: at most five rounds. `codes` start as m describes them.
template <class Code>
void improve_codes(const float* x, const float* w, std::size_t n, int low, int high, Code* codes,
                   Moments& m) noexcept {
  for (int round = 0; round < 5; ++round) {
    bool changed = false;
    for (std::size_t i = 0; i < n; ++i) {
      const Moments others = m.without(w[i], x[i], static_cast<float>(codes[i]));
      if (!(others.xl > 0.0f && others.ll > 0.0f)) continue;
      const int code = std::clamp(nearest(x[i] * others.ll / others.xl), low, high);
      if (code == codes[i]) continue;
      Moments moved = others;
      moved.add(w[i], x[i], static_cast<float>(code));
      if (!moved.better_than(m)) continue;
      codes[i] = static_cast<Code>(code);
      m = moved;
      changed = true;
    }
    if (!changed) return;
  }
}

/// weight = scale * code, weighted by squares: the peak becomes -limit, then codes are improved
/// one by one.
template <std::size_t n>
Symmetric<n> fit_one_by_one(const float* x, int limit) noexcept {
  Symmetric<n> fit{};
  std::fill(fit.codes, fit.codes + n, static_cast<std::int8_t>(-limit));
  const float peak = signed_peak(x, n);
  if (std::fabs(peak) < kSmallestPeak) return fit;
  const float inverse = -static_cast<float>(limit) / peak;
  float w[n];
  Moments m;
  for (std::size_t i = 0; i < n; ++i) {
    w[i] = x[i] * x[i];
    fit.codes[i] = static_cast<std::int8_t>(std::clamp(nearest(inverse * x[i]), -limit, limit - 1));
    m.add(w[i], x[i], static_cast<float>(fit.codes[i]));
  }
  improve_codes(x, w, n, -limit, limit - 1, fit.codes, m);
  fit.scale = m.scale();
  return fit;
}

template <std::size_t n>
struct Positive {
  float scale;
  std::uint8_t codes[n];  // 0 ... limit
};

/// x = scale * code for x >= 0: scales and minimums of sub-blocks, weighted.
template <std::size_t n>
Positive<n> fit_positive(const float* x, const float* w, int limit) noexcept {
  Positive<n> fit{};
  float peak = 0.0f;
  for (std::size_t i = 0; i < n; ++i) peak = std::max(peak, x[i]);
  if (peak < kSmallestPeak) return fit;

  float best = 0.0f, inverse = 0.0f;
  for (const int s : {0, -4, -3, -2, -1, 1, 2, 3, 4}) {
    const float tried = (0.1f * static_cast<float>(s) + static_cast<float>(limit)) / peak;
    const float scale = 1.0f / tried;
    float error = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      const float off = x[i] - scale * static_cast<float>(std::min(limit, nearest(tried * x[i])));
      error += w[i] * off * off;
    }
    if (s != 0 && !(error < best)) continue;
    best = error;
    inverse = tried;
  }
  Moments m;
  for (std::size_t i = 0; i < n; ++i) {
    fit.codes[i] = static_cast<std::uint8_t>(std::min(limit, nearest(inverse * x[i])));
    m.add(w[i], x[i], static_cast<float>(fit.codes[i]));
  }
  improve_codes(x, w, n, 0, limit, fit.codes, m);
  fit.scale = m.scale();
  return fit;
}

/// The same without a search: the largest becomes `limit`.
template <std::size_t n>
Positive<n> round_to_peak(const float (&x)[n], int limit) noexcept {
  const float peak = std::max(0.0f, *std::max_element(x, x + n));
  const float inverse = peak > 0.0f ? static_cast<float>(limit) / peak : 0.0f;
  Positive<n> rounded{peak / static_cast<float>(limit), {}};
  for (std::size_t i = 0; i < n; ++i) {
    rounded.codes[i] = static_cast<std::uint8_t>(std::min(limit, nearest(inverse * x[i])));
  }
  return rounded;
}

/// Which inverse scales fit_affine tries: (limit + first + step * i) / range for i = 0 ... steps.
struct AffineSearch {
  float first, step;
  int steps;
  bool absolute;  // errors count by magnitude, not by square
};

/// What ggml searches with importances, in every format with a minimum.
inline constexpr AffineSearch kWeightedSearch{-0.9f, 0.05f, 36, false};

template <std::size_t n>
struct Affine {
  float scale;
  float minimum;          // what is taken off: weight = scale * code - minimum, minimum >= 0
  std::uint8_t codes[n];  // 0 ... limit
};

/// weight = scale * code - minimum, of eight blocks: codes for some scales around range / limit,
/// for each scale and minimum by least squares, and the best of these.
template <std::size_t n>
class AffineFit {
 public:
  Eight scale, minimum;
  Abreast<n> codes;

  AffineFit(const Abreast<n>& x, const Abreast<n>& w, int limit,
            const AffineSearch& search) noexcept
      : x_(x), w_(w), range_(0, limit), absolute_(search.absolute) {
    measure();
    const auto most = static_cast<float>(limit);
    scale = Eight(1.0f) / (Eight(most) / (high_ - low_));
    Eight from = low_, inverse = inverse_for(most);  // that the best codes are of
    encode(from, inverse);
    Eight best = error_of(scale, low_);
    const Mask zeros = ~(high_ > low_);
    for (int s = 0; s <= search.steps; ++s) {
      // A better minimum is where the next candidates start from, too.
      const Eight tried = inverse_for(search.first + search.step * static_cast<float>(s) + most);
      encode(low_, tried);
      const Line line = through_codes();
      const Eight error = error_of(line.scale, line.minimum);
      const Mask better = line.exists & (error < best);
      from = select(better, low_, from);
      inverse = select(better, tried, inverse);
      best = select(better, error, best);
      low_ = select(better, line.minimum, low_);
      scale = select(better, line.scale, scale);
    }
    encode(from, inverse);
    scale = select(zeros, 0.0f, scale);
    minimum = -low_;
  }

 private:
  struct Line {
    Eight scale, minimum;
    Mask exists;
  };

  void measure() noexcept {
    low_ = high_ = x_[0];
    sum_w_ = w_[0];
    sum_x_ = w_[0] * x_[0];
    for (std::size_t i = 1; i < n; ++i) {
      low_ = min(low_, x_[i]);
      high_ = max(high_, x_[i]);
      sum_w_ += w_[i];
      sum_x_ += w_[i] * x_[i];
    }
    low_ = min(low_, 0.0f);
  }

  /// Where a float has no inverse of so small a range, ggml makes zeros.
  Eight inverse_for(float steps) const noexcept {
    const Eight inverse = Eight(steps) / (high_ - low_);
    return select(abs(inverse) < std::numeric_limits<float>::infinity(), inverse, 0.0f);
  }

  void encode(const Eight& from, const Eight& inverse) noexcept {
    for (std::size_t i = 0; i < n; ++i) codes[i] = range_.nearest(inverse * (x_[i] - from));
  }

  /// Weighted least squares; a minimum above zero is zero.
  Line through_codes() const noexcept {
    Eight l = 0.0f, ll = 0.0f, xl = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      const Eight wl = w_[i] * codes[i];
      l += wl;
      ll += wl * codes[i];
      xl += wl * x_[i];
    }
    const Eight determinant = sum_w_ * ll - l * l;
    const Eight minimum_of_all = (ll * sum_x_ - l * xl) / determinant;
    const Mask above = minimum_of_all > 0.0f;
    return {select(above, xl / ll, (sum_w_ * xl - sum_x_ * l) / determinant),
            select(above, 0.0f, minimum_of_all), determinant > 0.0f};
  }

  Eight error_of(const Eight& with_scale, const Eight& with_minimum) const noexcept {
    Eight error = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      const Eight off = with_scale * codes[i] + with_minimum - x_[i];
      error += w_[i] * (absolute_ ? abs(off) : off * off);
    }
    return error;
  }

  const Abreast<n>& x_;
  const Abreast<n>& w_;
  const CodeRange range_;
  const bool absolute_;
  Eight low_, high_, sum_w_, sum_x_;
};

/// The same for blocks that follow each other.
template <std::size_t n>
void fit_affine(const float* weights, const float* importances, int limit,
                const AffineSearch& search, std::span<Affine<n>> fits) noexcept {
  for (std::size_t first = 0; first < fits.size(); first += kAbreast) {
    const Abreast<n> x(weights, first, fits.size()), w(importances, first, fits.size());
    const AffineFit<n> found(x, w, limit, search);
    for (std::size_t k = first; k < std::min(first + kAbreast, fits.size()); ++k) {
      fits[k].scale = found.scale[k - first];
      fits[k].minimum = found.minimum[k - first];
      found.codes.take(k - first, fits[k].codes);
    }
  }
}

/// Codes once more, for the scale and minimum as they were stored.
inline void encode_affine(const float* x, std::size_t n, float scale, float minimum, int limit,
                          std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<std::uint8_t>(std::clamp(nearest((x[i] + minimum) / scale), 0, limit));
  }
}

inline void encode_symmetric(const float* x, std::size_t n, float scale, int limit,
                             std::int8_t* codes) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<std::int8_t>(std::clamp(nearest(x[i] / scale), -limit, limit - 1));
  }
}

}  // namespace rwkvcpp::fit
