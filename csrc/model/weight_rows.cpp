#include "model/weight_rows.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace rwkvcpp {
namespace {

std::shared_ptr<const AlignedBuffer> made(const TensorInfo& tensor) {
  if (!tensor.make) return nullptr;
  auto bytes = std::make_shared<AlignedBuffer>(
      round_up(static_cast<std::size_t>(tensor.n_bytes), kAlignment));
  tensor.make(bytes->data());
  return bytes;
}

}  // namespace

WeightRows::WeightRows(const ModelFile& file, const TensorInfo& tensor, const Format* wanted,
                       bool mapped)
    : file_(&file),
      tensor_(&tensor),
      stored_(&rwkvcpp::format(tensor.type)),
      wanted_(wanted != nullptr ? wanted : stored_),
      mapped_(mapped),
      made_(made(tensor)) {}

const std::uint8_t* WeightRows::in_place() const {
  return mapped_ && !made_ && !converts() ? file_->mapped(*tensor_) : nullptr;
}

void WeightRows::read_bytes(std::uint64_t begin, std::size_t n, void* out) const {
  if (made_) {
    std::memcpy(out, made_->data() + begin, n);
  } else {
    file_->read(*tensor_, begin, n, out);
  }
}

void WeightRows::read_stored(std::size_t row, std::size_t n_rows, void* out) const {
  const std::size_t n_bytes = stored_->row_bytes(n_inputs());
  read_bytes(row * n_bytes, n_rows * n_bytes, out);
}

std::string WeightRows::sample() const {
  constexpr std::uint64_t kPieces = 8;
  constexpr std::uint64_t kPieceBytes = 128;
  const std::uint64_t n = std::min(kPieceBytes, tensor_->n_bytes);
  std::string bytes(kPieces * n, '\0');
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    read_bytes((tensor_->n_bytes - n) * i / (kPieces - 1), n, bytes.data() + i * n);
  }
  return bytes;
}

void WeightRows::dequantize_stored(std::size_t row, std::size_t n_rows, float* out) const {
  std::vector<std::uint8_t> stored(n_rows * stored_->row_bytes(n_inputs()));
  read_stored(row, n_rows, stored.data());
  stored_->dequantize(stored.data(), n_blocks(*stored_, n_rows), out);
}

void WeightRows::read(std::size_t row, std::size_t n_rows, void* out) const {
  if (!converts()) return read_stored(row, n_rows, out);
  std::vector<float> values(n_rows * n_inputs());
  dequantize_stored(row, n_rows, values.data());
  wanted_->quantize(values.data(), n_blocks(*wanted_, n_rows), out);
}

void WeightRows::dequantize(std::size_t row, std::size_t n_rows, float* out) const {
  if (const std::uint8_t* rows = in_place()) {
    return wanted_->dequantize(rows + row * row_bytes(), n_blocks(*wanted_, n_rows), out);
  }
  std::vector<std::uint8_t> blocks(n_rows * row_bytes());
  read(row, n_rows, blocks.data());
  wanted_->dequantize(blocks.data(), n_blocks(*wanted_, n_rows), out);
}

}  // namespace rwkvcpp
