// The list of weight formats. To add one: its header, its WeightType, its line.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "quant/bf16.h"
#include "quant/cancel.h"
#include "quant/f16.h"
#include "quant/f32.h"
#include "quant/fit.h"
#include "quant/format.h"
#include "quant/iq3_s.h"
#include "quant/iq3_xxs.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace rwkvcpp {
namespace {

// Blocks in files are not aligned, so they are copied into place first.
template <class F>
typename F::Block block_at(const void* blocks, std::size_t i) noexcept {
  typename F::Block block;
  std::memcpy(&block, static_cast<const std::uint8_t*>(blocks) + i * sizeof block, sizeof block);
  return block;
}

template <class F>
void dequantize(const void* blocks, std::size_t n_blocks, float* out) {
  for (std::size_t i = 0; i < n_blocks; ++i) {
    F::dequantize(block_at<F>(blocks, i), out + i * F::kInputs);
  }
}

template <class F>
void quantize(const float* in, std::size_t n_blocks, void* blocks) {
  for (std::size_t i = 0; i < n_blocks; ++i) {
    typename F::Block block;
    F::quantize(in + i * F::kInputs, block);
    std::memcpy(static_cast<std::uint8_t*>(blocks) + i * sizeof block, &block, sizeof block);
  }
}

/// Calls round(weights, importances, blocks) for eight blocks of a row at a time, or the fewer that
/// are left.
template <class F, class Round>
void round_abreast(const float* row, std::size_t n_blocks, const float* importances, void* blocks,
                   Round round) {
  using Block = typename F::Block;
  for (std::size_t i = 0; i < n_blocks; i += fit::kAbreast) {
    Block rounded[fit::kAbreast];
    const std::span<Block> some(rounded, std::min(fit::kAbreast, n_blocks - i));
    round(row + i * F::kInputs, importances + i * F::kInputs, some);
    std::memcpy(static_cast<std::uint8_t*>(blocks) + i * sizeof(Block), rounded, some.size_bytes());
  }
}

template <class F>
void quantize_weighted(const float* row, std::size_t n_blocks, const float* importances,
                       void* blocks) {
  using Block = typename F::Block;
  const std::size_t n = n_blocks * F::kInputs;
  const float mean_square = fit::sum_of_squares(row, n) / static_cast<float>(n);
  const auto round = [&](const float* in, const float* w, std::span<Block> out) {
    if constexpr (requires { F::quantize_weighted(in, w, mean_square, out); }) {
      F::quantize_weighted(in, w, mean_square, out);
    } else {
      for (std::size_t k = 0; k < out.size(); ++k) {
        F::quantize_weighted(in + k * F::kInputs, w + k * F::kInputs, mean_square, out[k]);
      }
    }
  };
  round_abreast<F>(row, n_blocks, importances, blocks, round);
}

using QuantizeWeighted = decltype(Format::quantize_weighted);

template <class F>
constexpr QuantizeWeighted weighted_quantizer() {
  if constexpr (requires { &F::quantize_weighted; }) {
    return quantize_weighted<F>;
  } else {
    return nullptr;
  }
}

template <class F>
void quantize_closest(const float* row, std::size_t n_blocks, const float* importances,
                      void* blocks) {
  round_abreast<F>(row, n_blocks, importances, blocks, F::quantize_closest);
}

template <class F>
constexpr decltype(Format::quantize_closest) closest_quantizer() {
  if constexpr (requires { &F::quantize_closest; }) {
    return quantize_closest<F>;
  } else {
    return nullptr;
  }
}

template <class F>
constexpr decltype(Format::cancel_errors) error_canceller() {
  if constexpr (requires { &F::set_codes; }) {
    return cancel_errors<F>;
  } else {
    return nullptr;
  }
}

template <class F>
void pack(const void* const* rows, std::size_t n_blocks, void* tiles) {
  for (std::size_t i = 0; i < n_blocks; ++i) {
    typename F::Block column[kTileRows];
    for (std::size_t r = 0; r < kTileRows; ++r) {
      if (rows[r] != nullptr) {
        column[r] = block_at<F>(rows[r], i);
      } else {
        std::memset(&column[r], 0, sizeof column[r]);
      }
    }
    F::pack(column, static_cast<typename F::Tile*>(tiles)[i]);
  }
}

/// 32 inputs of a row, or zeros.
template <class Item>
void copy_inputs(const void* row, std::size_t block, std::size_t n, Item* out) noexcept {
  if (row == nullptr) {
    std::memset(out, 0, n * sizeof(Item));
  } else {
    std::memcpy(out, static_cast<const std::uint8_t*>(row) + block * n * sizeof(Item),
                n * sizeof(Item));
  }
}

template <class F>
bool all_finite(const typename F::Block (&rows)[kStripRows][kBlock]) noexcept {
  bool finite = true;
  for (const auto& row : rows) {
    float values[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) F::dequantize(row[i], values + i);
    for (const float value : values) finite = finite && std::isfinite(value);
  }
  return finite;
}

template <class F>
bool pack_columns(const void* const* rows, std::size_t n_blocks, std::size_t n_strips,
                  std::size_t strip, void* panel) {
  bool finite = true;
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const ColumnBlock<F> out(panel, n_blocks, n_strips, b);
    if constexpr (F::kIsFloat) {
      typename F::Block column[kStripRows][kBlock];
      for (std::size_t r = 0; r < kStripRows; ++r) copy_inputs(rows[r], b, kBlock, column[r]);
      F::pack_strip(column, strip, out);
      finite = finite && all_finite<F>(column);
    } else {
      typename F::Block column[kStripRows];
      for (std::size_t r = 0; r < kStripRows; ++r) copy_inputs(rows[r], b, 1, &column[r]);
      F::pack_strip(column, n_strips, strip, out);
    }
  }
  return finite;
}

template <class F>
constexpr ColumnFormat column_format() {
  if constexpr (F::kHasColumns) {
    return {F::kStripScales, F::kStripCodes, pack_columns<F>};
  } else {
    return {};
  }
}

template <class F>
constexpr Format describe(std::string_view name, int gguf_id, int ggmf_code) {
  return {F::kType,
          name,
          gguf_id,
          ggmf_code,
          F::kInputs,
          sizeof(typename F::Block),
          sizeof(typename F::Tile),
          F::kIsFloat,
          dequantize<F>,
          quantize<F>,
          weighted_quantizer<F>(),
          pack<F>,
          column_format<F>(),
          closest_quantizer<F>(),
          error_canceller<F>()};
}

constexpr Format kFormats[] = {
    describe<F32>("F32", 0, 0),         describe<F16>("F16", 1, 1),
    describe<BF16>("BF16", 30, -1),     describe<Q4_0>("Q4_0", 2, 2),
    describe<Q4_1>("Q4_1", 3, 3),       describe<Q5_0>("Q5_0", 6, 7),
    describe<Q5_1>("Q5_1", 7, 8),       describe<Q8_0>("Q8_0", 8, 9),
    describe<Q6_K>("Q6_K", 14, 15),     describe<Q2_K>("Q2_K", 10, 11),
    describe<Q3_K>("Q3_K", 11, 12),     describe<Q4_K>("Q4_K", 12, 13),
    describe<Q5_K>("Q5_K", 13, 14),     describe<IQ4_NL>("IQ4_NL", 20, -1),
    describe<IQ4_XS>("IQ4_XS", 23, -1), describe<IQ3_XXS>("IQ3_XXS", 18, -1),
    describe<IQ3_S>("IQ3_S", 21, -1),
};
static_assert(std::size(kFormats) == kWeightTypes);

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return std::ranges::equal(a, b, {}, lower, lower);
}

template <class Matches>
const Format* find(Matches matches) {
  const auto* found = std::ranges::find_if(kFormats, matches);
  return found != std::end(kFormats) ? found : nullptr;
}

}  // namespace

std::span<const Format> formats() { return kFormats; }

const Format& format(WeightType type) { return kFormats[static_cast<std::size_t>(type)]; }

const Format* find_format(std::string_view name) {
  return find([&](const Format& f) { return same_letters(f.name, name); });
}

const Format* find_gguf_format(std::uint32_t gguf_id) {
  return find([&](const Format& f) { return static_cast<std::uint32_t>(f.gguf_id) == gguf_id; });
}

const Format* find_ggmf_format(std::int32_t ggmf_code) {
  return find([&](const Format& f) { return f.ggmf_code >= 0 && f.ggmf_code == ggmf_code; });
}

}  // namespace rwkvcpp
