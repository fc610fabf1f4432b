// What a model file holds and what running it takes, without reading weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/model_file.h"
#include "model/config.h"
#include "model/weight_binder.h"

namespace rwkvcpp {

struct ModelInfo {
  std::shared_ptr<const ModelFile> file;
  Config config;
  std::vector<TensorInfo> tensors;  // in the types that they are loaded in
  std::uint64_t packed_bytes = 0;   // matrices in memory, packed
  std::uint64_t state_bytes = 0;    // of one sequence
};

/// types: of what is quantized while it loads.
ModelInfo model_info(std::shared_ptr<const ModelFile> file, const TypeMap& types = {});

}  // namespace rwkvcpp
