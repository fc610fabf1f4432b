// The registry of weight formats: what each is called, how long its blocks are,
// and how its blocks are read, made and packed.
//
// A format is one header (quant/<name>.h) and one line in kFormats of
// formats.cpp. Files hold rows of blocks; the kernels read *tiles*: 16 rows of
// one block column, interleaved so that one vector register holds the same
// inputs of 16 rows (docs/adr/0002).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace rwkvcpp {

inline constexpr std::size_t kTileRows = 16;  // outputs that a tile holds
inline constexpr std::size_t kBlock = 32;     // inputs that share an activation scale

enum class WeightType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ6_K,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kIQ4_NL,
  kIQ4_XS,
  kIQ3_XXS,
  kIQ3_S,
};
inline constexpr std::size_t kWeightTypes = 17;

inline constexpr std::size_t kStripRows = 128;

/// How a format packs by columns (quant/columns.h), if it does.
struct ColumnFormat {
  std::size_t scale_bytes = 0;  // of a strip and block
  std::size_t code_bytes = 0;   // of a strip and input
  /// Puts kStripRows rows (nullptr: a row of zeros) into strip `strip` of a panel of n_strips;
  /// false when a float among them is not finite, so that zero inputs may not be left out.
  bool (*pack)(const void* const* rows, std::size_t n_blocks, std::size_t n_strips,
               std::size_t strip, void* panel) = nullptr;
};

struct InputStatistics;  // quant/cancel.h

struct Format {
  WeightType type;
  std::string_view name;     // as llama.cpp spells it: "Q4_0"
  int gguf_id;               // ggml_type
  int ggmf_code;             // rwkv.cpp's code; -1: has none
  std::size_t block_inputs;  // weights in a block: 1, 32 or 256
  std::size_t block_bytes;   // bytes of a block in a file
  std::size_t tile_bytes;    // bytes of 16 packed rows of one block
  bool is_float;             // meets float32 activations; the others meet int8

  void (*dequantize)(const void* blocks, std::size_t n_blocks, float* out);
  /// ggml's reference rounding, byte for byte.
  void (*quantize)(const float* in, std::size_t n_blocks, void* blocks);
  /// The same for a whole row, errors of each input counted by its importance; nullptr where
  /// these change nothing.
  void (*quantize_weighted)(const float* row, std::size_t n_blocks, const float* importances,
                            void* blocks);
  /// Interleaves 16 rows (nullptr: a row of zeros past the matrix's end).
  void (*pack)(const void* const* rows, std::size_t n_blocks, void* tiles);
  ColumnFormat columns;
  /// Not ggml's: the least squares of errors, counted by importances alone, with more scales tried;
  /// nullptr where this is quantize_weighted, or nothing.
  void (*quantize_closest)(const float* row, std::size_t n_blocks, const float* importances,
                           void* blocks);
  /// Moves codes of a row that has been rounded so that errors cancel; nullptr where codes are no
  /// even steps, or so small ones that it does not matter.
  void (*cancel_errors)(const float* row, std::size_t n_blocks, const InputStatistics& inputs,
                        void* blocks);

  std::size_t row_bytes(std::size_t n_inputs) const noexcept {
    return n_inputs / block_inputs * block_bytes;
  }
};

std::span<const Format> formats();
const Format& format(WeightType type);
/// nullptr when unknown. Names match whatever their case.
const Format* find_format(std::string_view name);
const Format* find_gguf_format(std::uint32_t gguf_id);
const Format* find_ggmf_format(std::int32_t ggmf_code);

}  // namespace rwkvcpp
