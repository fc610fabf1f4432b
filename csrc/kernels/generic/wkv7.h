// The recurrence of RWKV-7 for one head, state [key][value] (one row per key, so
// that all sums run down the rows and lanes stay apart):
//   kappa = normalize(k k_k),  k' = k (1 + (a - 1) k_a)
//   removed = -(kappa S),  S = diag(w) S + (kappa a) removed + k' v,  y = r S
//   out = (group_norm(y) + (r . k' r_k) v) gate
//
// `removed` of the next token sums over the state that this token leaves, so a
// sequence sweeps the state once per token, in the same order as a single token.
#pragma once

#include <cmath>

#include "kernels/generic/head.h"

namespace rwkvcpp::kernels {
namespace {

/// Per token and head, derived from k and a; each [head_size].
struct Keys7 {
  float minus_kappa[kMaxHeadSize];
  float kappa_a[kMaxHeadSize];
  float k[kMaxHeadSize];  // k'
};

template <class S>
void prepare_keys(const Wkv7Args& args, std::size_t t, Keys7& keys) noexcept {
  const std::size_t n = args.head_size;
  const float* k = args.k + t * args.stride;
  const float* a = args.a + t * args.stride;
  const float norm = std::sqrt(sum_over<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto kappa = V::mul(V::load(k + i), V::load(args.k_k + i));
    return V::mul(kappa, kappa);
  }));
  const float minus_inverse = -1.0f / (norm < 1e-12f ? 1e-12f : norm);
  for_lanes<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto rate = V::load(a + i), key = V::load(k + i), one = V::set(1.0f);
    const auto minus_kappa = V::mul(V::mul(key, V::load(args.k_k + i)), V::set(minus_inverse));
    V::store(keys.minus_kappa + i, minus_kappa);
    V::store(keys.kappa_a + i, V::sub(V::set(0.0f), V::mul(minus_kappa, rate)));
    const auto boost = V::fma(V::sub(rate, one), V::load(args.k_a + i), one);
    V::store(keys.k + i, V::mul(key, boost));
  });
}

/// removed = -(kappa S) for one strip of values, before the first token.
template <class V>
void removed_strip(const Wkv7Args& a, const Keys7& keys, float* removed, std::size_t i) noexcept {
  auto sum = V::set(0.0f);
  for (std::size_t j = 0; j < a.head_size; ++j) {
    sum = V::fma(V::load(a.state + j * a.head_size + i), V::set(keys.minus_kappa[j]), sum);
  }
  V::store(removed + i, sum);
}

/// One token for one strip of values; `next` null after the last token.
template <class V, bool has_next>
void wkv7_strip(const Wkv7Args& a, std::size_t t, const Keys7& keys, const Keys7& next,
                float* removed, float* y, std::size_t i) noexcept {
  const float* r = a.r + t * a.stride;
  const float* w = a.decay + t * a.stride;
  const auto v = V::load(a.v + t * a.stride + i);
  const auto out = V::load(removed + i);
  auto sum = V::set(0.0f), next_removed = V::set(0.0f);
  for (std::size_t j = 0; j < a.head_size; ++j) {
    float* row = a.state + j * a.head_size + i;
    auto s = V::mul(V::load(row), V::set(w[j]));
    s = V::fma(out, V::set(keys.kappa_a[j]), s);
    s = V::fma(v, V::set(keys.k[j]), s);
    V::store(row, s);
    sum = V::fma(s, V::set(r[j]), sum);
    if constexpr (has_next) next_removed = V::fma(s, V::set(next.minus_kappa[j]), next_removed);
  }
  V::store(y + i, sum);
  if constexpr (has_next) V::store(removed + i, next_removed);
}

/// Asks for a token's rows: a head's part of a row is too short for the hardware to notice.
inline void prefetch_token(const Wkv7Args& a, std::size_t t) noexcept {
  constexpr std::size_t kLine = 16;
  for (const float* row : {a.r, a.decay, a.k, a.v, a.a, a.gate}) {
    for (std::size_t i = 0; i < a.head_size; i += kLine) {
      __builtin_prefetch(row + t * a.stride + i);
    }
  }
}

template <class S>
void finish_head(const Wkv7Args& a, std::size_t t, const Keys7& keys, const float* y) noexcept {
  const std::size_t n = a.head_size;
  const float* r = a.r + t * a.stride;
  const float* v = a.v + t * a.stride;
  const float* gate = a.gate + t * a.stride;
  float* out = a.out + t * a.stride;
  const float bonus = sum_over<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    return V::mul(V::mul(V::load(r + i), V::load(keys.k + i)), V::load(a.r_k + i));
  });
  layer_norm<S>({y, a.norm_weight, a.norm_bias, a.norm_eps, n, out});
  for_lanes<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto sum = V::fma(V::load(v + i), V::set(bonus), V::load(out + i));
    V::store(out + i, V::mul(sum, V::load(gate + i)));
  });
}

template <class S>
void wkv7(const Wkv7Args& a) noexcept {
  constexpr std::size_t kAhead = 4;  // tokens
  const std::size_t n = a.head_size;
  Keys7 keys[2];
  float removed[kMaxHeadSize], y[kMaxHeadSize];
  prepare_keys<S>(a, 0, keys[0]);
  for_head_lanes<S>(
      n, [&](auto simd, std::size_t i) { removed_strip<decltype(simd)>(a, keys[0], removed, i); });
  for (std::size_t t = 0; t < a.n_rows; ++t) {
    const Keys7& now = keys[t % 2];
    Keys7& next = keys[(t + 1) % 2];
    const bool has_next = t + 1 < a.n_rows;
    if (has_next) prepare_keys<S>(a, t + 1, next);
    if (t + kAhead < a.n_rows) prefetch_token(a, t + kAhead);
    for_head_lanes<S>(n, [&](auto simd, std::size_t i) {
      using V = decltype(simd);
      if (has_next) {
        wkv7_strip<V, true>(a, t, now, next, removed, y, i);
      } else {
        wkv7_strip<V, false>(a, t, now, next, removed, y, i);
      }
    });
    finish_head<S>(a, t, now, y);
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
