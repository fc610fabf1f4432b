// Formats: rounding and back within half a step; exact where a format is exact.
#include <algorithm>
#include <cmath>

#include "doctest.h"
#include "numeric.h"
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

/// Steps between neighbouring codes over the range of a block, per format.
int n_steps(WeightType type) {
  switch (type) {
    case WeightType::kQ4_0:
      return 15;
    case WeightType::kQ4_1:
      return 15;
    case WeightType::kQ5_0:
      return 31;
    case WeightType::kQ5_1:
      return 31;
    case WeightType::kQ8_0:
      return 254;
    case WeightType::kQ6_K:
      return 63;
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
    const float allowed = 2.0f / static_cast<float>(n_steps(f.type)) * 1.1f;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CAPTURE(f.name);
      CHECK(std::fabs(weights[i] - back[i]) <= allowed);
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
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
