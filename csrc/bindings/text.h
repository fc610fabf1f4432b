// Bytes from files and file systems as Python text, whatever they are.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>

namespace rwkvcpp {

namespace py = pybind11;

/// For people: bytes that are not UTF-8 show as replacement characters.
inline py::str message_text(std::string_view bytes) {
  const auto n = static_cast<py::ssize_t>(bytes.size());
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(bytes.data(), n, "replace"));
}

/// For programs: such bytes can be had back with errors="surrogateescape".
inline py::str metadata_text(std::string_view bytes) {
  const auto n = static_cast<py::ssize_t>(bytes.size());
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(bytes.data(), n, "surrogateescape"));
}

/// As Python's os.fsdecode.
inline py::str path_text(std::string_view path) {
  const auto n = static_cast<py::ssize_t>(path.size());
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefaultAndSize(path.data(), n));
}

/// As Python's os.fsencode: str, bytes or os.PathLike.
inline std::string path_bytes(const py::object& path) {
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(path.ptr(), &encoded) == 0) throw py::error_already_set();
  return py::reinterpret_steal<py::bytes>(encoded);
}

}  // namespace rwkvcpp
