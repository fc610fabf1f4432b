// Rounding errors of a row that cancel each other.
//
// What is lost of an output is the sum of a row's errors, each times its input, and inputs go
// together. `common` holds the directions in which they do: the expected square of what is lost is
//
//   sum_i importance_i e_i^2  +  kTrust * sum_{i != j} e_i e_j sum_k common_ik common_jk
//
// Codes move one by one to where that is least, scales stay as they are. Directions are estimates,
// and another text has others: half of them is what served best on text that they had not seen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "quant/eight.h"
#include "quant/fit.h"

namespace rwkvcpp {

/// What rounding may know of the inputs of a matrix.
struct InputStatistics {
  static constexpr std::size_t kDirections = 16;
  struct Directions {
    fit::Eight half[2];  // of one input: its part in each
  };

  const float* importances;  // [n_inputs]: mean squares
  const Directions* common;  // [n_inputs]
};

inline constexpr float kTrust = 0.5f;
inline constexpr int kSweeps = 3;           // over the codes of a row
inline constexpr float kFarthest = 128.0f;  // that a code could move

/// The rounding errors of a row, and what they come to in each direction.
class RowErrors {
 public:
  RowErrors(const InputStatistics& inputs, std::size_t n) : inputs_(inputs), errors_(n) {}

  void move(std::size_t i, float by) noexcept {
    errors_[i] += by;
    for (std::size_t h = 0; h < 2; ++h) sums_[h] += inputs_.common[i].half[h] * by;
  }

  /// By how many steps the code of weight i should move.
  float steps(std::size_t i, float step) const noexcept {
    const float importance = inputs_.importances[i];
    if (step == 0.0f || !(importance > 0.0f)) return 0.0f;
    fit::Eight others = 0.0f;
    for (std::size_t h = 0; h < 2; ++h) {
      const fit::Eight& common = inputs_.common[i].half[h];
      others += common * (sums_[h] - common * errors_[i]);
    }
    const float slope = importance * errors_[i] + kTrust * fit::sum(others);
    const float wanted = -slope / (step * importance);
    return static_cast<float>(fit::nearest(std::clamp(wanted, -kFarthest, kFarthest)));
  }

 private:
  InputStatistics inputs_;
  std::vector<float> errors_;
  fit::Eight sums_[2] = {0.0f, 0.0f};
};

/// Moves codes of a row that was rounded to `blocks`.
template <class F>
void cancel_errors(const float* row, std::size_t n_blocks, const InputStatistics& inputs,
                   void* blocks) {
  const std::size_t n = n_blocks * F::kInputs;
  std::vector<typename F::Block> rounded(n_blocks);
  std::memcpy(rounded.data(), blocks, n_blocks * sizeof(typename F::Block));
  std::vector<std::uint8_t> codes(n);
  RowErrors errors(inputs, n);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const std::size_t first = b * F::kInputs;
    float values[F::kInputs];
    F::dequantize(rounded[b], values);
    F::get_codes(rounded[b], codes.data() + first);
    for (std::size_t i = 0; i < F::kInputs; ++i) errors.move(first + i, values[i] - row[first + i]);
  }
  bool moved = true;
  for (int sweep = 0; sweep < kSweeps && moved; ++sweep) {
    moved = false;
    for (std::size_t i = 0; i < n; ++i) {
      const float step = F::step(rounded[i / F::kInputs], i % F::kInputs);
      const float wanted = static_cast<float>(codes[i]) + errors.steps(i, step);
      const float code = std::clamp(wanted, 0.0f, static_cast<float>(F::kMaxCode));
      if (code == static_cast<float>(codes[i])) continue;
      errors.move(i, (code - static_cast<float>(codes[i])) * step);
      codes[i] = static_cast<std::uint8_t>(code);
      moved = true;
    }
  }
  for (std::size_t b = 0; b < n_blocks; ++b)
    F::set_codes(rounded[b], codes.data() + b * F::kInputs);
  std::memcpy(blocks, rounded.data(), n_blocks * sizeof(typename F::Block));
}

}  // namespace rwkvcpp
