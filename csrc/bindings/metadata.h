// What model files say about themselves, as Python values.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "io/model_file.h"

namespace rwkvcpp {

pybind11::object metadata_value(const MetadataValue& value);

/// The dictionary that _core.pyi describes.
pybind11::dict file_info(const std::shared_ptr<ModelFile>& file);

}  // namespace rwkvcpp
