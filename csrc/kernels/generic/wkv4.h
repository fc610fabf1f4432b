// The RWKV-4 recurrence: per channel, a weighted mean of past values whose
// weights are exp(key + age * decay), kept relative to the largest exponent pp.
#pragma once

#include "kernels/generic/lanes.h"
#include "kernels/generic/math.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
typename S::F larger(typename S::F a, typename S::F b) noexcept {
  return S::where_less(a, b, b, a);
}

template <class S>
void wkv4_lane(const Wkv4Args& a, std::size_t i) noexcept {
  auto aa = S::load(a.aa + i), bb = S::load(a.bb + i), pp = S::load(a.pp + i);
  const auto decay = S::load(a.decay + i), bonus = S::load(a.bonus + i);
  for (std::size_t t = 0; t < a.n_rows; ++t) {
    const std::size_t at = t * a.stride + i;
    const auto k = S::load(a.k + at), v = S::load(a.v + at);

    auto candidate = S::add(bonus, k);
    auto largest = larger<S>(pp, candidate);
    auto past = exp<S>(S::sub(pp, largest));
    auto now = exp<S>(S::sub(candidate, largest));
    const auto wkv = S::div(S::fma(past, aa, S::mul(now, v)), S::fma(past, bb, now));
    S::store(a.out + at, S::mul(S::load(a.r + at), wkv));

    candidate = S::add(pp, decay);
    largest = larger<S>(candidate, k);
    past = exp<S>(S::sub(candidate, largest));
    now = exp<S>(S::sub(k, largest));
    aa = S::fma(past, aa, S::mul(now, v));
    bb = S::fma(past, bb, now);
    pp = largest;
  }
  S::store(a.aa + i, aa);
  S::store(a.bb + i, bb);
  S::store(a.pp + i, pp);
}

template <class S>
void wkv4(const Wkv4Args& a) noexcept {
  for_lanes<S>(a.n_channels, [&](auto simd, std::size_t i) { wkv4_lane<decltype(simd)>(a, i); });
}

}  // namespace
}  // namespace rwkvcpp::kernels
