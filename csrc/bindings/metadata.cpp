#include "bindings/metadata.h"

#include <type_traits>

#include "bindings/text.h"
#include "model/model_info.h"

namespace rwkvcpp {
namespace {

/// Longer arrays (vocabularies) show as their length.
constexpr std::size_t kShownElements = 16;

py::object python_value(const std::string& text) { return metadata_text(text); }

template <class T>
py::object python_value(const T& value) {
  return py::cast(value);
}

template <class T>
py::object python_value(const std::vector<T>& values) {
  py::list list;
  for (const T& value : values) list.append(python_value(value));
  return list;
}

std::size_t array_length(const MetadataValue& value) {
  return std::visit(
      [](const auto& v) -> std::size_t {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
          return 0;
        } else {
          return v.size();
        }
      },
      value);
}

py::dict metadata_summary(const ModelFile& file) {
  py::dict summary;
  for (const auto& [key, value] : file.metadata) {
    const std::size_t n = array_length(value);
    summary[metadata_text(key)] = n > kShownElements ? py::cast(n) : metadata_value(value);
  }
  return summary;
}

py::list tensor_list(const std::vector<TensorInfo>& found) {
  py::list tensors;
  for (const TensorInfo& tensor : found) {
    py::dict row;
    row["name"] = metadata_text(tensor.name);
    row["type"] = std::string(format(tensor.type).name);
    row["shape"] = python_value(tensor.shape);
    row["bytes"] = tensor.n_bytes;
    tensors.append(row);
  }
  return tensors;
}

}  // namespace

py::object metadata_value(const MetadataValue& value) {
  return std::visit([](const auto& v) { return python_value(v); }, value);
}

py::dict file_info(const std::shared_ptr<ModelFile>& file, const TypeMap& types) {
  const ModelInfo info = model_info(file, types);
  const Config& config = info.config;
  py::dict result;
  result["path"] = path_text(info.file->path);
  result["container"] = info.file->container;
  result["architecture"] = metadata_text(info.file->architecture);
  result["version"] = config.version;
  result["n_vocab"] = config.n_vocab;
  result["n_embd"] = config.n_embd;
  result["n_layer"] = config.n_layer;
  result["n_ffn"] = config.n_ffn;
  result["head_size"] = config.head_size;
  result["n_head"] = config.n_head();
  result["file_bytes"] = info.file->file_bytes;
  result["weight_bytes"] = info.packed_bytes;
  result["state_bytes"] = info.state_bytes;
  result["tensors"] = tensor_list(info.tensors);
  result["metadata"] = metadata_summary(*info.file);
  return result;
}

}  // namespace rwkvcpp
