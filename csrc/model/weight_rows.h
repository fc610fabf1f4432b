// The rows of a weight, wherever they are: in a file, or made and kept in memory;
// as they are stored, or quantized to another type on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/aligned_buffer.h"
#include "io/model_file.h"
#include "quant/format.h"

namespace rwkvcpp {

class WeightRows {
 public:
  /// `wanted` is the type that rows are to have; nullptr: the one that they are stored
  /// in. A tensor that no file holds is made here, whole.
  WeightRows(const ModelFile& file, const TensorInfo& tensor, const Format* wanted, bool mapped);

  const Format& format() const noexcept { return *wanted_; }
  std::size_t n_inputs() const noexcept { return tensor_->shape.back(); }
  std::size_t row_bytes() const noexcept { return wanted_->row_bytes(n_inputs()); }

  /// Copies rows [row, row + n_rows) in format(). Safe from several threads.
  void read(std::size_t row, std::size_t n_rows, void* out) const;
  /// The same as float32.
  void dequantize(std::size_t row, std::size_t n_rows, float* out) const;

  /// Some of the stored bytes, from the first to the last, in pieces as far apart as
  /// can be: enough to tell one training of a model from another.
  std::string sample() const;

  /// The rows in the mapped file; nullptr unless they are used where they lie.
  const std::uint8_t* in_place() const;

 private:
  void read_bytes(std::uint64_t begin, std::size_t n, void* out) const;
  void read_stored(std::size_t row, std::size_t n_rows, void* out) const;
  void dequantize_stored(std::size_t row, std::size_t n_rows, float* out) const;
  bool converts() const noexcept { return wanted_ != stored_; }
  std::size_t n_blocks(const Format& format, std::size_t n_rows) const noexcept {
    return n_rows * n_inputs() / format.block_inputs;
  }

  const ModelFile* file_;
  const TensorInfo* tensor_;
  const Format* stored_;
  const Format* wanted_;
  bool mapped_;
  std::shared_ptr<const AlignedBuffer> made_;  // null: in the file
};

}  // namespace rwkvcpp
