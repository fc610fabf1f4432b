// What a sampler does with a row of logits or weights: maximum, exponentials, sums, counts, cuts.
//
// A row is whole blocks of kSumBlock. Products and sums are rounded one by one, as they always
// were: fused ones would draw other tokens from the same seed.
#pragma once

#include "kernels/generic/lanes.h"
#include "kernels/kernel_table.h"

namespace rwkvcpp::kernels {
namespace {

constexpr std::size_t kChains = 4;  // registers side by side, to hide the latency of a step

/// 2^x for x <= 0; 0 below 2^-125, and for NaN. x = n + f with |f| <= 1/2, then 2^n 2^f.
template <class S>
typename S::F exp2_up_to_one(typename S::F x) noexcept {
  using F = typename S::F;
  // Adding 1.5 * 2^23 rounds to an integer, and leaves that integer in the low bits.
  const F round = S::set(12582912.0f), one = S::set(1.0f);
  const F shifted = S::add(x, round);
  const F f = S::sub(x, S::sub(shifted, round));
  // Of all polynomials 1 + c0 f + ... + c4 f^5 the one with the least relative error, 9e-8.
  F p = S::add(S::set(0.00967151305f), S::mul(f, S::set(0.00132647284f)));
  p = S::add(S::set(0.0555073374f), S::mul(f, p));
  p = S::add(S::set(0.240222421f), S::mul(f, p));
  p = S::add(S::set(0.693146978f), S::mul(f, p));
  p = S::add(one, S::mul(f, p));
  const F power =
      S::as_float(S::add(S::template shift_left<23>(S::as_int(shifted)), S::as_int(one)));
  const F below = S::set(-0x1.f40002p+6f);  // the float next to -125
  return S::where_less(below, x, S::mul(p, power), S::set(0.0f));
}

/// The largest does not depend on how many lanes there are, but for the sign of zero, which adding
/// 0 takes away.
template <class S>
Maximum find_maximum(const float* row, std::size_t n) noexcept {
  constexpr std::int32_t kInfinity = 0x7F800000;
  typename S::F largest[kChains];
  typename S::I magnitude[kChains];  // the bits of NaN lie above those of infinity
  for (auto& chain : largest) chain = S::set(-__builtin_inff());
  for (auto& chain : magnitude) chain = S::set_int(0);
  for (std::size_t i = 0; i < n; i += kChains * S::kLanes) {
    for (std::size_t c = 0; c < kChains; ++c) {
      const auto v = S::load(row + i + c * S::kLanes);
      largest[c] = S::where_less(largest[c], v, v, largest[c]);
      magnitude[c] = S::max(magnitude[c], S::bit_and(S::as_int(v), S::set_int(INT32_MAX)));
    }
  }
  Maximum found = {-__builtin_inff(), true};
  for (std::size_t c = 0; c < kChains; ++c) {
    float lanes[S::kLanes];
    S::store(lanes, largest[c]);
    for (const float lane : lanes) found.value = lane > found.value ? lane : found.value;
    found.all_numbers = found.all_numbers && S::max_lanes(magnitude[c]) <= kInfinity;
  }
  found.value += 0.0f;
  return found;
}

template <class S, class Term>
void sum_blocks(std::size_t n, double* sums, Term term) noexcept {
  for (std::size_t begin = 0; begin < n; begin += kSumBlock) {
    *sums++ =
        sum_over<S>(kSumBlock, [&](auto simd, std::size_t i) { return term(simd, begin + i); });
  }
}

template <class S>
void exponentials(const ExponentialsArgs& e) noexcept {
  const auto value = [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    return exp2_up_to_one<V>(V::mul(V::sub(V::load(e.logits + i), V::set(e.max)), V::set(e.scale)));
  };
  const auto stored = [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto v = value(simd, i);
    V::store(e.out + i, v);
    return v;
  };
  const auto stored_above = [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto key = V::load(e.keys + i);
    const auto v = V::where_less(V::set(e.floor), key, value(simd, i), V::set(0.0f));
    V::store(e.out + i, v);
    return v;
  };
  e.keys == nullptr ? sum_blocks<S>(e.n, e.sums, stored) : sum_blocks<S>(e.n, e.sums, stored_above);
}

template <class S>
void sum_above(const SumAboveArgs& s) noexcept {
  sum_blocks<S>(s.n, s.sums, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    return V::where_less(V::set(s.floor), V::load(s.keys + i), V::load(s.values + i), V::set(0.0f));
  });
}

/// 1 in every lane where low <= v < high, as integers: they add up exactly.
template <class S>
typename S::I ones_between(typename S::F low, typename S::F high, typename S::F v) noexcept {
  const auto zero = S::set(0.0f), one = S::as_float(S::set_int(1));
  return S::as_int(S::where_less(v, low, zero, S::where_less(v, high, one, zero)));
}

template <class S>
typename S::I ones_from(typename S::F bound, typename S::F v) noexcept {
  return S::as_int(S::where_less(v, bound, S::set(0.0f), S::as_float(S::set_int(1))));
}

template <class S>
std::size_t count_at_least(float bound, const float* values, std::size_t n) noexcept {
  typename S::I counts[kChains];
  for (auto& count : counts) count = S::set_int(0);
  for (std::size_t i = 0; i < n; i += kChains * S::kLanes) {
    for (std::size_t c = 0; c < kChains; ++c) {
      const auto v = S::load(values + i + c * S::kLanes);
      counts[c] = S::add(counts[c], ones_from<S>(S::set(bound), v));
    }
  }
  return static_cast<std::size_t>(
      S::sum_lanes(S::add(S::add(counts[0], counts[1]), S::add(counts[2], counts[3]))));
}

/// Sixteen values at a time are passed over when none is between: nearly always.
template <class S>
std::size_t between(float low, float high, const float* values, std::size_t n,
                    float* out) noexcept {
  constexpr std::size_t kGroup = 16;
  std::size_t count = 0;
  for (std::size_t begin = 0; begin < n; begin += kGroup) {
    auto any = S::set_int(0);
    for (std::size_t i = begin; i < begin + kGroup; i += S::kLanes) {
      any = S::bit_or(any, ones_between<S>(S::set(low), S::set(high), S::load(values + i)));
    }
    if (S::max_lanes(any) == 0) continue;
    for (std::size_t i = begin; i < begin + kGroup; ++i) {
      if (values[i] >= low && values[i] < high) out[count++] = values[i];
    }
  }
  return count;
}

template <class S>
std::size_t drop_below(float bound, float* values, std::size_t n) noexcept {
  auto count = S::set_int(0);
  for (std::size_t i = 0; i < n; i += S::kLanes) {
    const auto v = S::load(values + i), least = S::set(bound);
    count = S::add(count, ones_from<S>(least, v));
    S::store(values + i, S::where_less(v, least, S::set(0.0f), v));
  }
  return static_cast<std::size_t>(S::sum_lanes(count));
}

template <class S>
void fill_vocabulary(KernelTable& table) noexcept {
  table.find_maximum = find_maximum<S>;
  table.exponentials = exponentials<S>;
  table.sum_above = sum_above<S>;
  table.count_at_least = count_at_least<S>;
  table.between = between<S>;
  table.drop_below = drop_below<S>;
}

}  // namespace
}  // namespace rwkvcpp::kernels
