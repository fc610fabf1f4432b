// Eight numbers side by side, one of each of eight blocks.
//
// A search for a block's scale looks at one weight after the other, and its sums keep that order.
// Eight blocks are searched at once: each lane computes what its block alone would, to the bit,
// and the compiler has vectors, whatever the machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkvcpp::fit {

inline constexpr std::size_t kAbreast = 8;

/// Four of them: what every processor has a register for.
using FourFloats __attribute__((vector_size(16))) = float;
using FourMasks __attribute__((vector_size(16))) = std::int32_t;

/// For each lane all bits or none.
struct Mask {
  FourMasks half[2];

  friend Mask operator&(const Mask& a, const Mask& b) noexcept {
    return {{a.half[0] & b.half[0], a.half[1] & b.half[1]}};
  }
  Mask operator~() const noexcept { return {{~half[0], ~half[1]}}; }
};

inline Mask all_lanes() noexcept { return {{~FourMasks{}, ~FourMasks{}}}; }

/// Whether any lane is set.
inline bool any(const Mask& mask) noexcept {
  const FourMasks both = mask.half[0] | mask.half[1];
  return (both[0] | both[1] | both[2] | both[3]) != 0;
}

struct Eight {
  FourFloats half[2];

  Eight() = default;
  Eight(float v) noexcept : half{{v, v, v, v}, {v, v, v, v}} {}
  Eight(const FourFloats& low, const FourFloats& high) noexcept : half{low, high} {}

  float operator[](std::size_t lane) const noexcept { return half[lane / 4][lane % 4]; }
  void set(std::size_t lane, float v) noexcept { half[lane / 4][lane % 4] = v; }

  friend Eight operator+(const Eight& a, const Eight& b) noexcept {
    return {a.half[0] + b.half[0], a.half[1] + b.half[1]};
  }
  friend Eight operator-(const Eight& a, const Eight& b) noexcept {
    return {a.half[0] - b.half[0], a.half[1] - b.half[1]};
  }
  friend Eight operator*(const Eight& a, const Eight& b) noexcept {
    return {a.half[0] * b.half[0], a.half[1] * b.half[1]};
  }
  friend Eight operator/(const Eight& a, const Eight& b) noexcept {
    return {a.half[0] / b.half[0], a.half[1] / b.half[1]};
  }
  Eight operator-() const noexcept { return {-half[0], -half[1]}; }
  Eight& operator+=(const Eight& other) noexcept { return *this = *this + other; }

  friend Mask operator<(const Eight& a, const Eight& b) noexcept {
    return {{a.half[0] < b.half[0], a.half[1] < b.half[1]}};
  }
  friend Mask operator>(const Eight& a, const Eight& b) noexcept { return b < a; }
};

/// yes where the mask is set, no elsewhere.
inline Eight select(const Mask& mask, const Eight& yes, const Eight& no) noexcept {
  return {mask.half[0] ? yes.half[0] : no.half[0], mask.half[1] ? yes.half[1] : no.half[1]};
}

// As in <algorithm>: a of equals, and where either is no number.
inline Eight min(const Eight& a, const Eight& b) noexcept { return select(b < a, b, a); }
inline Eight max(const Eight& a, const Eight& b) noexcept { return select(a < b, b, a); }
inline Eight abs(const Eight& a) noexcept { return max(a, -a); }

/// Of all lanes, in one order.
inline float sum(const Eight& a) noexcept {
  const FourFloats both = a.half[0] + a.half[1];
  return (both[0] + both[1]) + (both[2] + both[3]);
}

/// n numbers of each of eight blocks: [i] holds number i of all of them.
template <std::size_t n>
class Abreast {
 public:
  Abreast() = default;
  /// Of blocks that follow each other, the one at `first` and the next: zeros behind the last.
  Abreast(const float* blocks, std::size_t first, std::size_t n_blocks) noexcept {
    for (std::size_t k = 0; k < kAbreast; ++k) {
      const bool is_there = first + k < n_blocks;
      for (std::size_t i = 0; i < n; ++i) {
        numbers_[i].set(k, is_there ? blocks[(first + k) * n + i] : 0.0f);
      }
    }
  }

  Eight& operator[](std::size_t i) noexcept { return numbers_[i]; }
  const Eight& operator[](std::size_t i) const noexcept { return numbers_[i]; }

  /// The codes of one block.
  template <class Code>
  void take(std::size_t lane, Code (&out)[n]) const noexcept {
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Code>(numbers_[i][lane]);
  }

 private:
  Eight numbers_[n];
};

/// The number of largest magnitude, the first of equals, with its sign.
template <std::size_t n>
Eight signed_peak(const Abreast<n>& x) noexcept {
  Eight peak = 0.0f;
  for (std::size_t i = 0; i < n; ++i) peak = select(abs(peak) < abs(x[i]), x[i], peak);
  return peak;
}

/// Numbers to the nearest integers of a range, halves to even; what is no number to the lowest.
class CodeRange {
 public:
  CodeRange(int low, int high) noexcept
      : low_(kNoFraction + static_cast<float>(low)),
        high_(kNoFraction + static_cast<float>(high)) {}

  Eight nearest(const Eight& x) const noexcept {
    return min(max(low_, x + kNoFraction), high_) - kNoFraction;
  }

 private:
  static constexpr float kNoFraction = 0x1.8p23f;  // behind it a mantissa has no place for one
  Eight low_, high_;
};

}  // namespace rwkvcpp::fit
