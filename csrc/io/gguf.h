// The reader of GGUF, llama.cpp's container, versions 2 and 3.
#pragma once

#include <cstdint>
#include <span>

#include "io/model_file.h"

namespace rwkvcpp {

/// Fills `file`, whose path is set, from the whole of the file's bytes.
void read_gguf(std::span<const std::uint8_t> bytes, ModelFile& file);

/// The same for a file whose general.type is "imatrix": F32 tensors under their own names.
void read_gguf_imatrix(std::span<const std::uint8_t> bytes, ModelFile& file);

}  // namespace rwkvcpp
