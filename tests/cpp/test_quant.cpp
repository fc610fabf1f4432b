// Formats: rounding and back within half a step; exact where a format is exact.
#include <algorithm>
#include <cmath>

#include "doctest.h"
#include "numeric.h"
#include "quant/cancel.h"
#include "quant/format.h"
#include "quant/half.h"

namespace rwkvcpp::testing {
namespace {

TEST_CASE("half precision: every finite value survives, halves round to even") {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<std::uint16_t>(h);
    const float f = fp16_to_fp32(bits);
    if (std::isnan(f)) continue;
    CHECK(fp32_to_fp16(f) == bits);
  }
  CHECK(fp32_to_fp16(1.0f + 0x1p-11f) == 0x3C00);
  CHECK(fp32_to_fp16(1.0f + 3 * 0x1p-11f) == 0x3C02);
  CHECK(fp32_to_fp16(65520.0f) == 0x7C00);
  CHECK(fp32_to_fp16(65519.0f) == 0x7BFF);
  CHECK(fp32_to_fp16(0x1p-25f) == 0);
  CHECK(fp32_to_fp16(0x1.8p-25f) == 1);
  CHECK(std::isnan(fp16_to_fp32(fp32_to_fp16(std::nanf("")))));
}

TEST_CASE("bfloat16 rounds to even and keeps NaN") {
  CHECK(bf16_to_fp32(fp32_to_bf16(1.5f)) == 1.5f);
  CHECK(fp32_to_bf16(1.0f + 0x1p-8f) == 0x3F80);
  CHECK(fp32_to_bf16(1.0f + 3 * 0x1p-8f) == 0x3F82);
  CHECK(std::isnan(bf16_to_fp32(fp32_to_bf16(std::nanf("")))));
}

TEST_CASE("every format is found by its names and numbers") {
  for (const Format& f : formats()) {
    CHECK(find_format(f.name) == &f);
    CHECK(find_gguf_format(static_cast<std::uint32_t>(f.gguf_id)) == &f);
    if (f.ggmf_code >= 0) CHECK(find_ggmf_format(f.ggmf_code) == &f);
    CHECK(&format(f.type) == &f);
  }
  CHECK(find_format("q5_1") == &format(WeightType::kQ5_1));
  CHECK(find_format("Q9_9") == nullptr);
  CHECK(find_ggmf_format(-1) == nullptr);
  CHECK(find_gguf_format(4) == nullptr);
}

/// Steps between neighbouring codes over the range of a block, per format: the widest step where
/// they differ.
double n_steps(WeightType type) {
  switch (type) {
    case WeightType::kQ2_K:
      return 3;
    case WeightType::kQ3_K:
      return 7;
    case WeightType::kQ4_0:
    case WeightType::kQ4_1:
    case WeightType::kQ4_K:
      return 15;
    case WeightType::kQ5_0:
    case WeightType::kQ5_1:
    case WeightType::kQ5_K:
      return 31;
    case WeightType::kQ6_K:
      return 63;
    case WeightType::kQ8_0:
      return 254;
    case WeightType::kIQ4_NL:
    case WeightType::kIQ4_XS:
      return 240.0 / 24;  // from 89 to 113, of -127 ... 113
    case WeightType::kIQ3_XXS:
    case WeightType::kIQ3_S:
      return 15.0 / 6;  // not every four levels are in the codebook: up to three off
    default:
      return 0;
  }
}

TEST_CASE("blocks: quantized and back, no weight moves more than its step allows") {
  Random random(9);
  for (const Format& f : formats()) {
    if (f.is_float) continue;
    const std::vector<float> weights = random.floats(4 * f.block_inputs);
    std::vector<std::uint8_t> blocks(4 * f.block_bytes);
    std::vector<float> back(weights.size());
    f.quantize(weights.data(), 4, blocks.data());
    f.dequantize(blocks.data(), 4, back.data());
    // Range 2; one step at the end of symmetric formats; scales rounded to fp16.
    const double allowed = 2.0 / n_steps(f.type) * 1.1;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CAPTURE(f.name);
      CHECK(std::fabs(weights[i] - back[i]) <= allowed);
    }
  }
}

/// The squared errors of every fourth weight.
double error_of_fourths(const Format& f, const std::vector<float>& weights,
                        const std::vector<std::uint8_t>& blocks) {
  std::vector<float> back(weights.size());
  f.dequantize(blocks.data(), weights.size() / f.block_inputs, back.data());
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); i += 4) {
    sum += std::pow(static_cast<double>(weights[i]) - back[i], 2);
  }
  return sum;
}

TEST_CASE("blocks: what is important is rounded with less error") {
  Random random(10);
  for (const Format& f : formats()) {
    if (f.quantize_weighted == nullptr) continue;
    const std::vector<float> weights = random.floats(16 * 256);
    std::vector<float> importances(weights.size(), 1.0f);
    for (std::size_t i = 0; i < importances.size(); i += 4) importances[i] = 1000.0f;
    const std::size_t n_blocks = weights.size() / f.block_inputs;
    std::vector<std::uint8_t> plain(n_blocks * f.block_bytes), weighted(plain.size());
    f.quantize(weights.data(), n_blocks, plain.data());
    f.quantize_weighted(weights.data(), n_blocks, importances.data(), weighted.data());
    CAPTURE(f.name);
    CHECK(error_of_fourths(f, weights, weighted) < 0.9 * error_of_fourths(f, weights, plain));
  }
}

/// The squared errors of all weights, each times its importance.
double weighted_error(const Format& f, const std::vector<float>& weights,
                      const std::vector<float>& importances,
                      const std::vector<std::uint8_t>& blocks) {
  std::vector<float> back(weights.size());
  f.dequantize(blocks.data(), weights.size() / f.block_inputs, back.data());
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += importances[i] * std::pow(static_cast<double>(weights[i]) - back[i], 2);
  }
  return sum;
}

TEST_CASE("blocks: the closest rounding leaves less error than ggml's, with importances or not") {
  Random random(11);
  std::size_t n_formats = 0;
  for (const Format& f : formats()) {
    if (f.quantize_closest == nullptr) continue;
    ++n_formats;
    for (const bool equal : {true, false}) {
      const std::vector<float> weights = random.floats(16 * 256);
      std::vector<float> importances(weights.size(), 1.0f);
      for (std::size_t i = 0; !equal && i < importances.size(); i += 3) importances[i] = 20.0f;
      const std::size_t n_blocks = weights.size() / f.block_inputs;
      std::vector<std::uint8_t> plain(n_blocks * f.block_bytes), weighted(plain.size());
      std::vector<std::uint8_t> closest(plain.size());
      f.quantize(weights.data(), n_blocks, plain.data());
      f.quantize_weighted(weights.data(), n_blocks, importances.data(), weighted.data());
      f.quantize_closest(weights.data(), n_blocks, importances.data(), closest.data());
      const double error = weighted_error(f, weights, importances, closest);
      CAPTURE(f.name);
      CHECK(error < weighted_error(f, weights, importances, weighted));
      CHECK(error < 0.97 * weighted_error(f, weights, importances, plain));
    }
  }
  CHECK(n_formats == 4);
}

TEST_CASE("blocks: each of a row is rounded as if it were alone") {
  Random random(12);
  for (const Format& f : formats()) {
    if (f.quantize_closest == nullptr) continue;
    for (const std::size_t n_blocks : {1u, 7u, 8u, 9u, 21u}) {
      std::vector<float> weights = random.floats(n_blocks * f.block_inputs);
      const std::vector<float> importances = random.floats(weights.size(), 0.1f, 3.0f);
      std::fill_n(weights.begin(), f.block_inputs, 0.25f);  // one without a range
      for (std::size_t i = 0; i < weights.size(); i += 5) weights[i] *= 1e-6f;
      std::vector<std::uint8_t> row(n_blocks * f.block_bytes), alone(row.size());
      f.quantize_closest(weights.data(), n_blocks, importances.data(), row.data());
      for (std::size_t b = 0; b < n_blocks; ++b) {
        f.quantize_closest(weights.data() + b * f.block_inputs, 1,
                           importances.data() + b * f.block_inputs,
                           alone.data() + b * f.block_bytes);
      }
      CAPTURE(f.name);
      CAPTURE(n_blocks);
      CHECK(row == alone);
    }
  }
}

/// What cancel_errors makes less of: errors of a row under what its inputs have in common.
double joint_error(const Format& f, const std::vector<float>& row, const InputStatistics& inputs,
                   const std::vector<std::uint8_t>& blocks) {
  std::vector<float> back(row.size());
  f.dequantize(blocks.data(), row.size() / f.block_inputs, back.data());
  double alone = 0, joint = 0;
  std::vector<double> sums(InputStatistics::kDirections);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double error = static_cast<double>(back[i]) - row[i];
    alone += inputs.importances[i] * error * error;
    for (std::size_t k = 0; k < sums.size(); ++k) {
      const double part = inputs.common[i].half[k / 8][k % 8] * error;
      sums[k] += part;
      joint -= part * part;
    }
  }
  for (const double sum : sums) joint += sum * sum;
  return alone + kTrust * joint;
}

/// Inputs that share some directions, each larger than what is left of them alone.
struct SomeInputs {
  std::vector<float> importances;
  std::vector<InputStatistics::Directions> common;

  SomeInputs(Random& random, std::size_t n) : importances(n), common(n) {
    for (std::size_t i = 0; i < n; ++i) {
      importances[i] = 0.5f;
      for (std::size_t k = 0; k < InputStatistics::kDirections; ++k) {
        const float part = k < 5 ? random.floats(1, -0.6f, 0.9f)[0] : 0.0f;
        common[i].half[k / 8].set(k % 8, part);
        importances[i] += part * part;
      }
    }
  }
  InputStatistics view() const { return {importances.data(), common.data()}; }
};

TEST_CASE("blocks: errors of a row cancel, and never add up to more than before") {
  Random random(13);
  std::size_t n_formats = 0;
  for (const Format& f : formats()) {
    if (f.cancel_errors == nullptr) continue;
    ++n_formats;
    double before = 0, after = 0;
    for (int n = 0; n < 8; ++n) {
      const std::vector<float> row = random.floats(3 * 256);
      const SomeInputs inputs(random, row.size());
      const std::size_t n_blocks = row.size() / f.block_inputs;
      std::vector<std::uint8_t> blocks(n_blocks * f.block_bytes);
      f.quantize_weighted(row.data(), n_blocks, inputs.importances.data(), blocks.data());
      const double plain = joint_error(f, row, inputs.view(), blocks);
      f.cancel_errors(row.data(), n_blocks, inputs.view(), blocks.data());
      const double cancelled = joint_error(f, row, inputs.view(), blocks);
      CAPTURE(f.name);
      CHECK(cancelled <= plain);
      before += plain;
      after += cancelled;
    }
    CHECK(after < 0.9 * before);
  }
  CHECK(n_formats == 7);
}

TEST_CASE("blocks: where inputs have nothing in common, nearest codes stay") {
  Random random(14);
  for (const Format& f : formats()) {
    if (f.quantize_closest == nullptr) continue;
    const std::vector<float> row = random.floats(256);
    SomeInputs inputs(random, row.size());
    for (auto& directions : inputs.common) directions = {{0.0f, 0.0f}};
    std::vector<std::uint8_t> blocks(row.size() / f.block_inputs * f.block_bytes);
    f.quantize(row.data(), row.size() / f.block_inputs, blocks.data());
    std::vector<std::uint8_t> moved = blocks;
    f.cancel_errors(row.data(), row.size() / f.block_inputs, inputs.view(), moved.data());
    std::vector<float> before(row.size()), after(row.size());
    f.dequantize(blocks.data(), row.size() / f.block_inputs, before.data());
    f.dequantize(moved.data(), row.size() / f.block_inputs, after.data());
    for (std::size_t i = 0; i < row.size(); ++i) {
      CAPTURE(f.name);
      CHECK(std::fabs(after[i] - row[i]) <= std::fabs(before[i] - row[i]));
    }
  }
}

TEST_CASE("blocks of zeros have the sign of the first as their minimum, and no step") {
  for (const auto type : {WeightType::kQ4_1, WeightType::kQ5_1}) {
    for (const float first : {0.0f, -0.0f}) {
      std::vector<float> zeros(32, -first);
      zeros[0] = zeros[20] = first;
      std::uint8_t block[24];
      format(type).quantize(zeros.data(), 1, block);
      CHECK(block[0] == 0);
      CHECK(block[1] == 0);
      CHECK(block[2] == 0);
      CHECK(block[3] == (std::signbit(first) ? 0x80 : 0));
    }
  }
}

TEST_CASE("blocks of zeros stay zeros") {
  for (const Format& f : formats()) {
    const std::vector<float> zeros(2 * f.block_inputs, 0.0f);
    std::vector<std::uint8_t> blocks(2 * f.block_bytes, 0xAB);
    std::vector<float> back(zeros.size(), 1.0f);
    f.quantize(zeros.data(), 2, blocks.data());
    f.dequantize(blocks.data(), 2, back.data());
    CHECK(std::all_of(back.begin(), back.end(), [](float v) { return v == 0.0f; }));
    if (f.quantize_closest == nullptr) continue;
    const std::vector<float> ones(zeros.size(), 1.0f);
    f.quantize_closest(zeros.data(), 2, ones.data(), blocks.data());
    f.dequantize(blocks.data(), 2, back.data());
    CHECK(std::all_of(back.begin(), back.end(), [](float v) { return v == 0.0f; }));
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
