// The recurrence of RWKV-5 and 6 for one head, state [key][value]:
//   y = r S + (r . u k) v,   S = diag(w) S + k v,   out = group_norm(y) gate
//
// One sweep of the state per token; the bonus u needs one scalar per head.
#pragma once

#include "kernels/generic/head.h"

namespace rwkvcpp::kernels {
namespace {

/// Reads the old state into y while it writes the new one, for one strip of values.
template <class V>
void wkv6_strip(const Wkv6Args& a, std::size_t t, float bonus, float* y, std::size_t i) noexcept {
  const float* r = a.r + t * a.stride;
  const float* k = a.k + t * a.stride;
  const float* w = a.decay + t * a.decay_stride;
  const auto v = V::load(a.v + t * a.stride + i);
  auto sum = V::set(0.0f);
  for (std::size_t j = 0; j < a.head_size; ++j) {
    float* s = a.state + j * a.head_size + i;
    const auto old = V::load(s);
    sum = V::fma(old, V::set(r[j]), sum);
    V::store(s, V::fma(v, V::set(k[j]), V::mul(old, V::set(w[j]))));
  }
  V::store(y + i, V::fma(v, V::set(bonus), sum));
}

template <class S>
void wkv6(const Wkv6Args& a) noexcept {
  const std::size_t n = a.head_size;
  float y[kMaxHeadSize];
  for (std::size_t t = 0; t < a.n_rows; ++t) {
    const float* r = a.r + t * a.stride;
    const float* k = a.k + t * a.stride;
    const float bonus = sum_over<S>(n, [&](auto simd, std::size_t i) {
      using V = decltype(simd);
      return V::mul(V::mul(V::load(r + i), V::load(a.bonus + i)), V::load(k + i));
    });
    for_head_lanes<S>(
        n, [&](auto simd, std::size_t i) { wkv6_strip<decltype(simd)>(a, t, bonus, y, i); });
    float* out = a.out + t * a.stride;
    layer_norm<S>({y, a.norm_weight, a.norm_bias, a.norm_eps, n, out});
    if (a.gate == nullptr) continue;
    const float* gate = a.gate + t * a.stride;
    for_lanes<S>(n, [&](auto simd, std::size_t i) {
      using V = decltype(simd);
      V::store(out + i, V::mul(V::load(out + i), V::load(gate + i)));
    });
  }
}

}  // namespace
}  // namespace rwkvcpp::kernels
