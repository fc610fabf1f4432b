// What a model file holds and what running it takes, without reading weights.
#pragma once

#include <memory>
#include <string>

#include "io/model_file.h"
#include "model/config.h"

namespace rwkvcpp {

struct ModelInfo {
  std::shared_ptr<const ModelFile> file;
  Config config;
  std::uint64_t packed_bytes = 0;  // matrices in memory, packed
  std::uint64_t state_bytes = 0;   // of one sequence
};

ModelInfo model_info(std::shared_ptr<const ModelFile> file);

}  // namespace rwkvcpp
