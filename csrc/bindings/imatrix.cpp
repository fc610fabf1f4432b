// Files of importances, which are GGUF but no models.
#include <pybind11/numpy.h>

#include "bindings/bindings.h"
#include "bindings/metadata.h"
#include "bindings/text.h"
#include "core/mapped_file.h"
#include "io/gguf.h"

namespace rwkvcpp {
namespace {

py::array_t<float> values(const MappedFile& file, const TensorInfo& tensor) {
  py::array_t<float> array(tensor.shape);
  file.read(tensor.offset, tensor.n_bytes, array.mutable_data());
  return array;
}

py::tuple read_imatrix(const py::object& path) {
  const MappedFile mapped(path_bytes(path));
  ModelFile file;
  file.path = path_bytes(path);
  file.file_bytes = mapped.map().size();
  read_gguf_imatrix(mapped.map(), file);
  py::dict tensors, metadata;
  for (const TensorInfo& tensor : file.tensors) {
    tensors[py::str(tensor.name)] = values(mapped, tensor);
  }
  for (const auto& [key, value] : file.metadata) {
    metadata[metadata_text(key)] = metadata_value(value);
  }
  return py::make_tuple(tensors, metadata);
}

}  // namespace

void bind_imatrix(py::module_& m) {
  m.def("read_imatrix", &read_imatrix, py::arg("path"),
        "The tensors and the metadata of a GGUF file of importances.");
}

}  // namespace rwkvcpp
