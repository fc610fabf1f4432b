// Random inputs and exact comparison for kernel tests.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "core/aligned_buffer.h"

namespace rwkvcpp::testing {

/// SplitMix64: small, and the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24f;
  }
  std::vector<float> floats(std::size_t n, float low = -1.0f, float high = 1.0f) {
    std::vector<float> values(n);
    for (float& v : values) v = uniform(low, high);
    return values;
  }

 private:
  std::uint64_t state_;
};

/// Empty when both are the same bits; else the first difference, for people.
inline std::string difference(const float* expected, const float* actual, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (std::bit_cast<std::uint32_t>(expected[i]) == std::bit_cast<std::uint32_t>(actual[i])) {
      continue;
    }
    char text[128];
    std::snprintf(text, sizeof text, "[%zu]: expected %.9g, found %.9g", i,
                  static_cast<double>(expected[i]), static_cast<double>(actual[i]));
    return text;
  }
  return "";
}

inline std::string difference(const std::vector<float>& expected,
                              const std::vector<float>& actual) {
  if (expected.size() != actual.size()) return "sizes differ";
  return difference(expected.data(), actual.data(), expected.size());
}

}  // namespace rwkvcpp::testing
