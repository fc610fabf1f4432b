// What must hold of any bytes handed to ModelFile::parse: it returns a model
// whose tensors lie inside the bytes, or throws one of our errors.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "core/error.h"
#include "io/model_file.h"

namespace rwkvcpp::fuzz {

inline void require(bool holds) {
  if (!holds) std::abort();
}

// The model layer trusts what is checked here.
inline void check_tensor(const ModelFile& file, const TensorInfo& tensor) {
  const Format& format = rwkvcpp::format(tensor.type);
  require(file.find(tensor.name) == &tensor);
  require(!tensor.shape.empty() && tensor.n_elements() > 0);
  require(tensor.n_elements() % format.block_inputs == 0);
  require(tensor.n_bytes == format.row_bytes(tensor.n_elements()));
  require(tensor.n_bytes <= file.file_bytes);
  require(tensor.offset <= file.file_bytes - tensor.n_bytes);
}

inline void check_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  try {
    const auto file = ModelFile::parse(path, bytes);
    require(file->file_bytes == bytes.size());
    require(file->head_size != std::size_t{0});
    for (const TensorInfo& tensor : file->tensors) check_tensor(*file, tensor);
  } catch (const ModelFormatError& e) {
    require(std::string(e.what()).starts_with(path));
  } catch (const UnsupportedError& e) {
    require(std::string(e.what()).starts_with(path));
  }
}

}  // namespace rwkvcpp::fuzz
