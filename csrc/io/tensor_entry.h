// One entry of a file's list of tensors: its name and dimensions, checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/byte_reader.h"
#include "io/model_file.h"

namespace rwkvcpp {

/// The next `n` bytes as a name: 1 to `longest` bytes, printable UTF-8.
std::string read_name(ByteReader& reader, std::uint64_t n, std::size_t longest,
                      std::string_view what);

/// `dims` fastest first, as files list them. Shape and byte count are filled in,
/// the offset is left 0. ModelFormatError for zeros, sizes past 2^63 and rows
/// that do not fill their blocks.
TensorInfo make_tensor(const ByteReader& reader, const std::string& name, const Format& format,
                       std::span<const std::uint64_t> dims);

/// "F32, F16, Q4_0 ...": what this build reads.
std::string readable_formats();

}  // namespace rwkvcpp
