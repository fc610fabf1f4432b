// Files of importances, which are GGUF but no models.
#include <pybind11/numpy.h>

#include "bindings/bindings.h"
#include "bindings/metadata.h"
#include "bindings/text.h"
#include "core/mapped_file.h"
#include "io/gguf.h"

namespace rwkvcpp {
namespace {

ModelFile open_imatrix(const std::string& path) {
  ModelFile file;
  file.path = path;
  file.file = std::make_shared<const MappedFile>(path);
  file.file_bytes = file.file->map().size();
  read_gguf_imatrix(file.file->map(), file);
  return file;
}

py::array_t<float> values(const ModelFile& file, const TensorInfo& tensor) {
  py::array_t<float> array(tensor.shape);
  file.read(tensor, 0, tensor.n_bytes, array.mutable_data());
  return array;
}

py::tuple read_imatrix(const py::object& path) {
  const ModelFile file = open_imatrix(path_bytes(path));
  py::dict tensors, metadata;
  for (const TensorInfo& tensor : file.tensors) {
    tensors[py::str(tensor.name)] = values(file, tensor);
  }
  for (const auto& [key, value] : file.metadata)
    metadata[metadata_text(key)] = metadata_value(value);
  return py::make_tuple(tensors, metadata);
}

}  // namespace

void bind_imatrix(py::module_& m) {
  m.def("read_imatrix", &read_imatrix, py::arg("path"),
        "The tensors and the metadata of a GGUF file of importances.");
}

}  // namespace rwkvcpp
