// exp, sigmoid and tanh over lanes, the same bits on every instruction set.
//
// exp: Cody-Waite reduction to |r| <= ln 2 / 2, a polynomial of degree 6, and a
// power of two applied in two steps, so that results may be subnormal or
// infinite. Within 2 units in the last place; NaN stays NaN.
#pragma once

#include <cstdint>

namespace rwkvcpp::kernels {
namespace {

template <class S>
typename S::F power_of_two(typename S::I n) noexcept {  // -126 <= n <= 127
  return S::as_float(S::template shift_left<23>(S::add(n, S::set_int(127))));
}

template <class S>
typename S::F exp(typename S::F x) noexcept {
  using F = typename S::F;
  const F low = S::set(-110.0f), high = S::set(100.0f);
  x = S::where_less(x, low, low, x);
  x = S::where_less(high, x, high, x);

  const auto n = S::to_int(S::mul(x, S::set(1.44269504f)));
  const F n_float = S::to_float(n);
  F r = S::fma(n_float, S::set(-0.693359375f), x);
  r = S::fma(n_float, S::set(2.12194440e-4f), r);

  F p = S::set(1.9875691500e-4f);
  p = S::fma(p, r, S::set(1.3981999507e-3f));
  p = S::fma(p, r, S::set(8.3334519073e-3f));
  p = S::fma(p, r, S::set(4.1665795894e-2f));
  p = S::fma(p, r, S::set(1.6666665459e-1f));
  p = S::fma(p, r, S::set(5.0000001201e-1f));
  p = S::add(S::fma(p, S::mul(r, r), r), S::set(1.0f));

  const auto half = S::template shift_right<1>(n);
  return S::mul(S::mul(p, power_of_two<S>(half)), power_of_two<S>(S::sub(n, half)));
}

template <class S>
typename S::F sigmoid(typename S::F x) noexcept {
  const auto one = S::set(1.0f);
  return S::div(one, S::add(one, exp<S>(S::sub(S::set(0.0f), x))));
}

/// Near zero an odd polynomial, where 1 - 2 / (e^2x + 1) would cancel.
template <class S>
typename S::F tanh(typename S::F x) noexcept {
  using F = typename S::F;
  const F one = S::set(1.0f);
  const F square = S::mul(x, x);
  F p = S::set(-5.70498872745e-3f);
  p = S::fma(p, square, S::set(2.06390887954e-2f));
  p = S::fma(p, square, S::set(-5.37397155531e-2f));
  p = S::fma(p, square, S::set(1.33314422036e-1f));
  p = S::fma(p, square, S::set(-3.33332819422e-1f));
  const F near = S::fma(S::mul(p, square), x, x);

  const F twice = exp<S>(S::add(x, x));
  const F far = S::sub(one, S::div(S::set(2.0f), S::add(twice, one)));
  return S::where_less(square, S::set(0.625f * 0.625f), near, far);
}

}  // namespace
}  // namespace rwkvcpp::kernels
