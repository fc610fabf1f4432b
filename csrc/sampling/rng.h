// SplitMix64: 64 bits of state, 64 bits a step, and a copy continues where the original would.
//
// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014. The state
// walks by an odd constant, so it visits all 2^64 values; two rounds of shift, xor and multiply
// make neighbouring states look unrelated. Any seed is a good seed, 0 included.
#pragma once

#include <cstdint>

namespace rwkvcpp {

class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    state_ += 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio, made odd
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }

  /// SplitMix64(state()) continues from here.
  std::uint64_t state() const noexcept { return state_; }

  /// Uniform in [0, 1): a multiple of 2^-53.
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace rwkvcpp
