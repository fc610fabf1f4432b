// The versions of RWKV that this build runs, and how a file's is found.
#pragma once

#include <span>

#include "io/model_file.h"
#include "model/version.h"

namespace rwkvcpp {

/// UnsupportedError, with the tensors that tell, when it is none of ours.
const Version& detect_version(const ModelFile& file);

/// Sizes from shapes and metadata; ModelFormatError when they make no sense.
Config read_config(const ModelFile& file, const Version& version);

/// A metadata number of whatever width, or nothing.
std::optional<double> metadata_number(const ModelFile& file, const std::string& key);

}  // namespace rwkvcpp
