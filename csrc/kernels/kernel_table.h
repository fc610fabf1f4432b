// The contract between ops and kernels: plain functions over plain memory.
//
// A table belongs to one instruction set and starts as a copy of its parent's,
// so a kernel that is missing falls back. Kernels never start threads, allocate
// or throw. All tables give the same bits (docs/adr/0003): a product sums its
// inputs in order, one chain of fused multiply-adds per output; reductions over
// a row add sixteen interleaved partial sums.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkvcpp::kernels {

inline constexpr std::size_t kTypes = 17;          // = kWeightTypes
inline constexpr std::size_t kEpilogueKinds = 12;  // = kEpilogues
inline constexpr std::size_t kMaxHeadSize = 256;
inline constexpr std::size_t kPeakDots = 12;   // chains that hide a dot product's latency
inline constexpr std::size_t kSumBlock = 512;  // tokens of a vocabulary per partial sum

/// y[r][16 t + lane] = weights of tile row t . x[r], for t in [0, n_tiles).
///
/// Activations lie in panels: as many rows as the kernel takes at once (panel_rows),
/// so that it walks one stream. Quantized: block b of row r is at panel start +
/// b * panel rows + row in panel; floats likewise, input by input. One row is a
/// panel as it is.
struct MatmulArgs {
  const void* tiles;    // [n_tiles][n_units] tiles
  std::size_t n_tiles;  // of 16 outputs each
  std::size_t n_units;  // block columns
  const void* x;        // panels of ActivationBlock or float
  std::size_t n_rows;
  float* y;              // every lane of a tile is written
  std::size_t y_stride;  // floats from row to row
};

/// The inputs of a block that are not zero in any row of a panel; filled up to a multiple of four.
struct ActiveInputs {
  std::uint8_t n_active;
  std::uint8_t index[32];
};

/// y[r][128 s + lane] = weights of strip s of a panel (quant/columns.h) . x[r], for s in
/// [first_strip, end_strip), kPanelRows outputs at most; y points at the first strip's.
struct ColumnArgs {
  const void* panel;
  std::size_t n_strips, first_strip, end_strip;
  std::size_t n_blocks;
  const void* x;  // as in MatmulArgs
  std::size_t n_rows;
  float* y;
  std::size_t y_stride;
  const ActiveInputs* active;        // of every block, for one panel of rows; null: all inputs
  const std::int8_t* active_values;  // [block][row][32] in the order of `index`; for block weights
};

/// Finds them in a panel of n_rows; values as in ColumnArgs. How many there are in all.
struct ActiveArgs {
  const void* x;  // a panel of ActivationBlocks or of floats
  std::size_t n_rows, n_blocks;
  ActiveInputs* active;
  std::int8_t* values;
};

/// A panel of weights by columns, and the tiles of its rows: as many bytes.
struct TurnArgs {
  void* panel;
  void* tiles;  // [8 n_strips][units of n_blocks]
  std::size_t n_blocks, n_strips;
};

/// y = f(r) over n floats; what f reads is in ops.h, Epilogue.
struct EpilogueArgs {
  const float* r;
  float* y;
  const float* bias;
  const float* a;
  const float* b;
  std::size_t n;
};

struct LayerNormArgs {
  const float* x;
  const float* weight;
  const float* bias;
  float eps;
  std::size_t n;
  float* out;
};

/// out = x + (previous - x) mu, or previous - x when mu is null.
struct ShiftArgs {
  const float* x;
  const float* previous;
  const float* mu;
  std::size_t n;
  float* out;
};

/// Channels of one sequence, rows in time order; strides in floats.
struct Wkv4Args {
  const float *r, *k, *v;
  const float *decay, *bonus;
  float *aa, *bb, *pp;
  float* out;
  std::size_t n_channels, n_rows, stride;
};

/// One head of one sequence. state is [key][value].
struct Wkv6Args {
  const float *r, *k, *v;
  const float* decay;
  std::size_t decay_stride;  // 0: the same for all rows
  const float* bonus;
  const float* gate;  // may be null
  const float *norm_weight, *norm_bias;
  float norm_eps;
  float* state;
  float* out;
  std::size_t head_size, n_rows, stride;
};

struct Wkv7Args {
  const float *r, *decay, *k, *v, *a, *gate;
  const float *k_k, *k_a, *r_k;
  const float *norm_weight, *norm_bias;
  float norm_eps;
  float* state;
  float* out;
  std::size_t head_size, n_rows, stride;
};

struct Maximum {
  float value;       // of the numbers; -inf when none is above it
  bool all_numbers;  // no entry is NaN
};

/// out = 2^((logits - max) scale) where the key is above the floor, or everywhere when keys is
/// null; 0 elsewhere, and below 2^-125. No logit is above max. Each sum is that of kSumBlock
/// of out; n is a multiple of it.
struct ExponentialsArgs {
  const float* logits;
  float max, scale;
  const float* keys;
  float floor;
  std::size_t n;
  float* out;
  double* sums;
};

/// The sums, per kSumBlock, of the values whose key is above the floor.
struct SumAboveArgs {
  const float* values;
  const float* keys;
  float floor;
  std::size_t n;
  double* sums;
};

/// Rows of the panel that starts at `row` of n_rows: the largest power of two that
/// is left, at most max_rows.
constexpr std::size_t panel_rows(std::size_t row, std::size_t n_rows,
                                 std::size_t max_rows) noexcept {
  std::size_t rows = max_rows;
  while (rows > n_rows - row) rows /= 2;
  return rows;
}

struct KernelTable {
  const char* isa;
  /// Block weights meet ActivationBlocks, float weights meet floats.
  void (*matmul[kTypes])(const MatmulArgs&) noexcept;
  /// Every weight type meets floats.
  void (*matmul_float[kTypes])(const MatmulArgs&) noexcept;
  /// Weights by columns meet what `matmul` meets; null where a type has no columns.
  void (*columns[kTypes])(const ColumnArgs&) noexcept;
  /// Panel to tiles, and tiles to panel.
  void (*turn_to_tiles[kTypes])(const TurnArgs&) noexcept;
  void (*turn_to_columns[kTypes])(const TurnArgs&) noexcept;
  std::size_t (*find_active)(const ActiveArgs&) noexcept;
  std::size_t (*find_active_floats)(const ActiveArgs&) noexcept;
  /// Rows of activations that a product takes at once: a power of two.
  std::size_t max_rows;
  /// n_blocks * 32 floats to ActivationBlocks, `stride` blocks apart.
  void (*quantize)(const float* x, std::size_t n_blocks, void* blocks, std::size_t stride) noexcept;
  /// A panel of floats, [input][row], from rows `stride` floats apart.
  void (*interleave)(const float* x, std::size_t stride, std::size_t n_rows, std::size_t n_inputs,
                     float* panel) noexcept;
  void (*epilogue[kEpilogueKinds])(const EpilogueArgs&) noexcept;
  void (*layer_norm)(const LayerNormArgs&) noexcept;
  void (*token_shift)(const ShiftArgs&) noexcept;
  void (*scale)(float* x, float factor, std::size_t n) noexcept;
  void (*wkv4)(const Wkv4Args&) noexcept;
  void (*wkv6)(const Wkv6Args&) noexcept;
  void (*wkv7)(const Wkv7Args&) noexcept;
  /// Rows over the vocabulary: n is a multiple of kSumBlock, below 2^31.
  Maximum (*find_maximum)(const float* row, std::size_t n) noexcept;
  void (*exponentials)(const ExponentialsArgs&) noexcept;
  void (*sum_above)(const SumAboveArgs&) noexcept;
  std::size_t (*count_at_least)(float bound, const float* values, std::size_t n) noexcept;
  /// Copies the values in [low, high) to out, in their order; how many there are.
  std::size_t (*between)(float low, float high, const float* values, std::size_t n,
                         float* out) noexcept;
  /// Sets to zero what is below the bound; the number of those that stay.
  std::size_t (*drop_below)(float bound, float* values, std::size_t n) noexcept;
  /// Reads n bytes (a multiple of 512) and does nothing else.
  void (*read)(const void* p, std::size_t n) noexcept;
  /// n rounds of kPeakDots four-way dot products in registers; products of bytes in a round.
  std::size_t (*dot_rounds)(std::size_t n) noexcept;
};

}  // namespace rwkvcpp::kernels
