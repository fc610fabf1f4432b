// The reader of rwkv.cpp's own container ("ggmf", .bin), versions 100 and 101.
#pragma once

#include <cstdint>
#include <span>

#include "io/model_file.h"

namespace rwkvcpp {

/// Fills `file`, whose path is set, from the whole of the file's bytes.
void read_ggmf(std::span<const std::uint8_t> bytes, ModelFile& file);

}  // namespace rwkvcpp
