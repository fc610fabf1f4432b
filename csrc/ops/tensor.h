// What models and ops talk about: matrices, rows of activations, segments.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/types.h"
#include "quant/format.h"

namespace rwkvcpp {

/// What a matrix has seen of its inputs, by products with single rows.
struct Activity {
  std::uint64_t n_inputs = 0;
  std::uint64_t n_active = 0;  // not zero
};

/// How a matrix lies that can lie by columns, and what its products have lost by that.
struct Layout {
  bool by_columns = true;
  double regret = 0;  // in readings of the matrix (ops/cpu/cpu_layout.cpp)
};

/// What a matrix was multiplied with, over all rows x: how large each input is, and how inputs go
/// together.
struct InputMoments {
  static constexpr std::size_t kSketch = 64;

  std::vector<double> squares;  // [n_in]: sums of x_i^2
  std::vector<float> sketch;    // [n_in][kSketch]: sums of x_i * sum_j x_j sketch_signs(j)[k]
  std::uint64_t n_rows = 0;
};

/// +1 or -1 for each column of a sketch, as if thrown for each input: SplitMix64 of its index.
inline std::array<float, InputMoments::kSketch> sketch_signs(std::size_t input) noexcept {
  std::uint64_t z = (input + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  std::array<float, InputMoments::kSketch> signs{};
  for (float& sign : signs) {
    sign = (z & 1) != 0 ? 1.0f : -1.0f;
    z >>= 1;
  }
  return signs;
}

/// A weight matrix [n_out, n_in] as its device keeps it.
struct Matrix {
  const Format* format = nullptr;
  std::size_t n_out = 0;
  std::size_t n_in = 0;
  std::shared_ptr<AlignedBuffer> tiles = nullptr;   // packed; null when mapped
  const std::uint8_t* file_rows = nullptr;          // mmap=True: rows as the file has them
  std::shared_ptr<Layout> layout = nullptr;         // null: by tiles, for good
  bool may_skip = false;                            // by columns, zero inputs may be left out
  std::shared_ptr<Activity> activity = nullptr;     // where zeros are expected
  std::shared_ptr<InputMoments> moments = nullptr;  // where they are collected

  /// Now: as quant/columns.h has it.
  bool by_columns() const noexcept { return layout && layout->by_columns; }

  std::size_t n_strips() const noexcept { return (n_out + kStripRows - 1) / kStripRows; }
  /// Tiles of outputs; by columns, of whole strips.
  std::size_t n_tiles() const noexcept {
    return by_columns() ? n_strips() * (kStripRows / kTileRows)
                        : (n_out + kTileRows - 1) / kTileRows;
  }
  std::size_t n_units() const noexcept { return n_in / format->block_inputs; }
  std::size_t bytes() const noexcept { return n_out * format->row_bytes(n_in); }
  /// Of those, what need not be read when all inputs are zero.
  std::size_t skippable_bytes() const noexcept {
    return may_skip ? n_out * n_in * format->columns.code_bytes / kStripRows : 0;
  }
};

/// Where a matrix comes from: rows that can be copied out in any order, from
/// several threads at once.
struct MatrixSource {
  const Format* format;
  std::size_t n_out;
  std::size_t n_in;
  std::function<void(std::size_t row, std::size_t n_rows, void* out)> read;
  const std::uint8_t* mapped = nullptr;  // when set, use the file's rows in place
  bool zeros_expected = false;           // among the inputs: pack by columns where that can be
};

/// A view of float32 activations [n_rows, n_cols]; rows start 64-byte aligned.
struct Rows {
  float* data = nullptr;
  std::size_t n_rows = 0;
  std::size_t n_cols = 0;
  std::size_t stride = 0;  // floats from row to row, a multiple of 16

  explicit operator bool() const noexcept { return data != nullptr; }
  float* row(std::size_t i) const noexcept { return data + i * stride; }
  Rows first(std::size_t n) const noexcept { return {data, n, n_cols, stride}; }
  /// Columns [begin, begin + n); begin must be a multiple of 16.
  Rows columns(std::size_t begin, std::size_t n) const noexcept {
    return {data + begin, n_rows, n, stride};
  }
};

/// Consecutive rows that belong to one sequence, with that sequence's state.
struct Segment {
  std::size_t begin;
  std::size_t n_rows;
  float* state;  // the State's floats; layers are offsets into it
};
using Segments = std::span<const Segment>;

}  // namespace rwkvcpp
