// GGUF's metadata: keys with values of thirteen types, and lookups that check.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/byte_reader.h"
#include "io/model_file.h"

namespace rwkvcpp {

/// Reads `n_pairs` pairs into file.metadata.
void read_metadata(ByteReader& reader, std::uint64_t n_pairs, ModelFile& file);

/// Nothing when the key is absent; ModelFormatError when its value is not a
/// string, not an integer in [min, max], not a finite number in (min, max).
std::optional<std::string> metadata_string(const ModelFile& file, const std::string& key);
std::optional<std::uint64_t> metadata_integer(const ModelFile& file, const std::string& key,
                                              std::uint64_t min, std::uint64_t max);
std::optional<double> metadata_number(const ModelFile& file, const std::string& key, double min,
                                      double max);

}  // namespace rwkvcpp
