#include "model/model_info.h"

#include <algorithm>
#include <array>
#include <utility>

#include "model/registry.h"

namespace rwkvcpp {
namespace {

/// Two-dimensional, and yet a vector to the model.
constexpr std::array kPerHead = {".time_decay", ".time_faaaa", ".time_first"};

bool is_packed(const TensorInfo& tensor, const Version& version) {
  const auto ends_name = [&](const char* suffix) { return tensor.name.ends_with(suffix); };
  return tensor.shape.size() == 2 && tensor.name != "emb.weight" &&
         std::ranges::none_of(kPerHead, ends_name) &&
         std::ranges::find(version.unused, tensor.name) == version.unused.end();
}

std::uint64_t packed_bytes(const TensorInfo& tensor) {
  const Format& format = rwkvcpp::format(tensor.type);
  const bool by_columns = tensor.name.ends_with(".ffn.value.weight") &&
                          format.columns.pack != nullptr && tensor.shape[1] % kBlock == 0;
  const std::size_t n_tiles =
      round_up(tensor.shape[0], by_columns ? kStripRows : kTileRows) / kTileRows;
  return n_tiles * (tensor.shape[1] / format.block_inputs) * format.tile_bytes;
}

std::vector<TensorInfo> loaded_tensors(const ModelFile& file, const TypeMap& types) {
  std::vector<TensorInfo> tensors = file.tensors;
  for (TensorInfo& tensor : tensors) {
    const auto found = types.find(tensor.name);
    if (found == types.end()) continue;
    tensor.type = found->second;
    tensor.n_bytes = tensor.shape[0] * format(tensor.type).row_bytes(tensor.shape[1]);
  }
  return tensors;
}

}  // namespace

ModelInfo model_info(std::shared_ptr<const ModelFile> file, const TypeMap& types) {
  ModelInfo info;
  info.file = std::move(file);
  info.tensors = loaded_tensors(*info.file, types);
  const Version& version = detect_version(*info.file);
  info.config = read_config(*info.file, version);
  info.state_bytes = version.state_layout(info.config).n_floats * sizeof(float);
  for (const TensorInfo& tensor : info.tensors) {
    if (is_packed(tensor, version)) info.packed_bytes += packed_bytes(tensor);
  }
  return info;
}

}  // namespace rwkvcpp
