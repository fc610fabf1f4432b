// Files of importances, which are GGUF but no models.
#include <pybind11/numpy.h>

#include <algorithm>

#include "bindings/bindings.h"
#include "bindings/metadata.h"
#include "bindings/text.h"
#include "core/mapped_file.h"
#include "io/gguf.h"
#include "ops/tensor.h"

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

py::array_t<float> all_sketch_signs(std::size_t n_inputs) {
  py::array_t<float> signs({n_inputs, InputMoments::kSketch});
  float* out = signs.mutable_data();
  for (std::size_t i = 0; i < n_inputs; ++i) {
    const auto of_input = sketch_signs(i);
    std::ranges::copy(of_input, out + i * of_input.size());
  }
  return signs;
}

}  // namespace

void bind_imatrix(py::module_& m) {
  m.def("read_imatrix", &read_imatrix, py::arg("path"),
        "The tensors and the metadata of a GGUF file of importances.");
  m.def("sketch_signs", &all_sketch_signs, py::arg("n_inputs"),
        "What Model.importances() multiplies second moments with: +1 or -1, [n_inputs, columns].");
}

}  // namespace rwkvcpp
