// What model files say about themselves, as Python values.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "io/model_file.h"
#include "model/weight_binder.h"

namespace rwkvcpp {

pybind11::object metadata_value(const MetadataValue& value);

/// The dictionary that _core.pyi describes.
/// types: of what is quantized while it loads.
pybind11::dict file_info(const std::shared_ptr<ModelFile>& file, const TypeMap& types);

}  // namespace rwkvcpp
