// ModelFile: a model's tensors by name, from a file that the core reads itself or
// as Python found them in another.
#include "io/model_file.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/metadata.h"
#include "bindings/text.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "io/byte_reader.h"
#include "io/printable.h"
#include "io/tensor_entry.h"
#include "model/registry.h"

namespace rwkvcpp {
namespace {

using SharedFile = std::shared_ptr<ModelFile>;

SharedFile open(const py::object& path) {
  const std::string bytes = path_bytes(path);
  const py::gil_scoped_release nogil;
  return std::const_pointer_cast<ModelFile>(ModelFile::open(bytes));
}

/// A Python function that fills a buffer, to be called and dropped from anywhere.
std::function<void(void*)> filler(const py::function& fill, std::uint64_t n_bytes) {
  const auto drop = [](py::function* function) {
    const py::gil_scoped_acquire gil;
    delete function;
  };
  const std::shared_ptr<py::function> held(new py::function(fill), drop);
  return [held, n_bytes](void* out) {
    const py::gil_scoped_acquire gil;
    const auto view = py::memoryview::from_memory(out, static_cast<py::ssize_t>(n_bytes));
    (*held)(view);
    view.attr("release")();  // nobody keeps what points into memory that goes away
  };
}

/// Name, name in messages, type, shape, file and offset, what fills it.
using Entry = std::tuple<std::string, std::string, std::string, std::vector<std::uint64_t>,
                         py::object, std::uint64_t, std::optional<py::function>>;

TensorInfo tensor_from(const std::string& path, const Entry& entry,
                       std::map<std::string, std::size_t>& files) {
  const auto& [name, file_name, type, shape, file, offset, fill] = entry;
  ByteReader reader(path, {});
  reader.enter("list of tensors");
  for (const std::string& text : {name, file_name}) {
    if (!is_printable_name(text)) {
      reader.fail("a name is " + quoted(text) + ", expected printable UTF-8");
    }
  }
  const std::vector<std::uint64_t> dims(shape.rbegin(), shape.rend());
  if (dims.empty()) reader.fail("tensor " + name + " has no dimensions, expected 1 or more");
  TensorInfo tensor = make_tensor(reader, name, named_format(type), dims);
  tensor.file_name = file_name;
  if (fill) {
    tensor.make = filler(*fill, tensor.n_bytes);
  } else {
    tensor.offset = offset;
    tensor.file = files.try_emplace(path_bytes(file), files.size()).first->second;
  }
  return tensor;
}

SharedFile from_tensors(const py::object& path, const std::string& container,
                        const std::vector<Entry>& entries, double layer_norm_eps) {
  const std::string shown = path_bytes(path);
  std::map<std::string, std::size_t> indices;
  std::vector<TensorInfo> tensors;
  for (const Entry& entry : entries) tensors.push_back(tensor_from(shown, entry, indices));
  std::vector<std::shared_ptr<const MappedFile>> files(indices.size());
  for (const auto& [name, index] : indices) files[index] = std::make_shared<MappedFile>(name);
  return std::const_pointer_cast<ModelFile>(ModelFile::from_tensors(
      shown, container, std::move(files), std::move(tensors), layer_norm_eps));
}

py::list tensors(const ModelFile& file) {
  py::list list;
  for (const TensorInfo& tensor : file.tensors) {
    list.append(py::make_tuple(metadata_text(tensor.name), std::string(format(tensor.type).name),
                               py::tuple(py::cast(tensor.shape))));
  }
  return list;
}

py::dict metadata(const ModelFile& file) {
  py::dict all;
  for (const auto& [key, value] : file.metadata) all[metadata_text(key)] = metadata_value(value);
  return all;
}

py::bytes read(const ModelFile& file, const std::string& name, std::size_t begin, std::size_t n) {
  const TensorInfo* tensor = file.find(name);
  if (tensor == nullptr) throw py::key_error(name);
  const std::uint64_t row_bytes = tensor->n_bytes / tensor->shape[0];
  if (begin > tensor->shape[0] || n > tensor->shape[0] - begin) {
    throw py::index_error("rows " + std::to_string(begin) + " to " + std::to_string(begin + n) +
                          " of " + name + " were asked for, it has " +
                          std::to_string(tensor->shape[0]));
  }
  std::string bytes(n * row_bytes, '\0');
  {
    const py::gil_scoped_release nogil;
    file.read(*tensor, begin * row_bytes, bytes.size(), bytes.data());
  }
  return bytes;
}

}  // namespace

void bind_model_file(py::module_& m) {
  py::class_<ModelFile, SharedFile>(m, "ModelFile", "A model's tensors, none of them read yet.")
      .def(py::init(&open), py::arg("path"))
      .def_static("from_tensors", &from_tensors, py::arg("path"), py::arg("container"),
                  py::arg("tensors"), py::kw_only(), py::arg("layer_norm_eps") = 1e-5,
                  "Tensors that were found elsewhere, in the core's names and orientations.")
      .def_property_readonly("path", [](const ModelFile& file) { return path_text(file.path); })
      .def_property_readonly("container", [](const ModelFile& file) { return file.container; })
      .def_property_readonly("architecture",
                             [](const ModelFile& file) { return metadata_text(file.architecture); })
      .def_property_readonly(
          "version", [](const ModelFile& file) { return std::string(detect_version(file).name); })
      .def_property_readonly("head_size", [](const ModelFile& file) { return file.head_size; })
      .def_property_readonly("decay_applied",
                             [](const ModelFile& file) { return file.decay_applied; })
      .def_property_readonly("tensors", &tensors)
      .def_property_readonly("metadata", &metadata)
      .def("read", &read, py::arg("name"), py::arg("begin"), py::arg("n"),
           "The stored bytes of n entries of a tensor's first dimension.");
}

}  // namespace rwkvcpp
