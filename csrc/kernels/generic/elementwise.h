// Activations, gates and lerps: what happens to every element on its own.
#pragma once

#include "kernels/generic/lanes.h"
#include "kernels/generic/math.h"
#include "kernels/kernel_table.h"
#include "quant/activations.h"

namespace rwkvcpp::kernels {
namespace {

template <class S>
typename S::F plus_bias(const EpilogueArgs& e, std::size_t i) noexcept {
  return S::add(S::load(e.bias + i), S::load(e.r + i));
}

/// x + (target - x) t
template <class S>
typename S::F lerp(typename S::F x, typename S::F target, typename S::F t) noexcept {
  return S::fma(S::sub(target, x), t, x);
}

// One struct per Epilogue of ops.h, in its order: the value of y at i.
struct Store {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return S::load(e.r + i);
  }
};
struct Sigmoid {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return sigmoid<S>(S::load(e.r + i));
  }
};
struct Tanh {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return tanh<S>(S::load(e.r + i));
  }
};
struct Silu {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    const auto r = S::load(e.r + i);
    return S::mul(r, sigmoid<S>(r));
  }
};
struct ReluSquared {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    const auto r = S::load(e.r + i), zero = S::set(0.0f);
    const auto positive = S::where_less(r, zero, zero, r);
    return S::mul(positive, positive);
  }
};
struct Add {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return S::add(S::load(e.y + i), S::load(e.r + i));
  }
};
struct GatedAdd {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return S::fma(S::load(e.a + i), S::load(e.r + i), S::load(e.y + i));
  }
};
struct ShiftMix {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return S::fma(S::load(e.b + i), plus_bias<S>(e, i), S::load(e.a + i));
  }
};
struct Decay6 {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return exp<S>(S::sub(S::set(0.0f), exp<S>(plus_bias<S>(e, i))));
  }
};
struct Decay7 {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return exp<S>(S::mul(S::set(-0.606531f), sigmoid<S>(plus_bias<S>(e, i))));
  }
};
struct SigmoidBias {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return sigmoid<S>(plus_bias<S>(e, i));
  }
};
struct ValueResidual {
  template <class S>
  static typename S::F at(const EpilogueArgs& e, std::size_t i) noexcept {
    return lerp<S>(S::load(e.y + i), S::load(e.a + i), sigmoid<S>(plus_bias<S>(e, i)));
  }
};

template <class S, class Kind>
void epilogue(const EpilogueArgs& e) noexcept {
  for_lanes<S>(e.n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    V::store(e.y + i, Kind::template at<V>(e, i));
  });
}

template <class S>
void token_shift(const ShiftArgs& s) noexcept {
  for_lanes<S>(s.n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    const auto x = V::load(s.x + i), previous = V::load(s.previous + i);
    const auto out =
        s.mu != nullptr ? lerp<V>(x, previous, V::load(s.mu + i)) : V::sub(previous, x);
    V::store(s.out + i, out);
  });
}

template <class S>
void scale(float* x, float factor, std::size_t n) noexcept {
  for_lanes<S>(n, [&](auto simd, std::size_t i) {
    using V = decltype(simd);
    V::store(x + i, V::mul(V::load(x + i), V::set(factor)));
  });
}

template <class S>
void fill_elementwise(KernelTable& table) noexcept {
  std::size_t k = 0;
  for (const auto function :
       {epilogue<S, Store>, epilogue<S, Sigmoid>, epilogue<S, Tanh>, epilogue<S, Silu>,
        epilogue<S, ReluSquared>, epilogue<S, Add>, epilogue<S, GatedAdd>, epilogue<S, ShiftMix>,
        epilogue<S, Decay6>, epilogue<S, Decay7>, epilogue<S, SigmoidBias>,
        epilogue<S, ValueResidual>}) {
    table.epilogue[k++] = function;
  }
  table.token_shift = token_shift<S>;
  table.scale = scale<S>;
}

}  // namespace
}  // namespace rwkvcpp::kernels
