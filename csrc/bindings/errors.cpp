// The one place where C++ errors become Python's. The classes are Python
// (rwkvcpp/errors.py), so that they have docstrings and can be pickled.
#include <filesystem>
#include <system_error>

#include "bindings/bindings.h"
#include "bindings/text.h"
#include "core/error.h"

namespace rwkvcpp {
namespace {

void raise(const char* class_name, const std::exception& error) {
  const py::object type = py::module_::import("rwkvcpp.errors").attr(class_name);
  PyErr_SetObject(type.ptr(), message_text(error.what()).ptr());
}

/// OSError picks its subclass by errno: FileNotFoundError, IsADirectoryError, …
/// It is made here, because Python 3.10 compares `except` with the class that is named here.
void raise_os_error(const std::error_code& code, const py::object& file) {
  const auto os_error = py::reinterpret_borrow<py::object>(PyExc_OSError);
  const py::object error = os_error(code.value(), message_text(code.message()), file);
  PyErr_SetObject(py::type::handle_of(error).ptr(), error.ptr());
}

/// What is not ours is left to pybind11: std::out_of_range is IndexError,
/// std::invalid_argument ValueError, std::bad_alloc MemoryError.
void translate(std::exception_ptr error) {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const ModelFormatError& e) {
    raise("ModelFormatError", e);
  } catch (const UnsupportedError& e) {
    raise("UnsupportedError", e);
  } catch (const StateError& e) {
    raise("StateError", e);
  } catch (const Error& e) {
    raise("RwkvError", e);
  } catch (const std::filesystem::filesystem_error& e) {
    raise_os_error(e.code(), path_text(e.path1().string()));
  } catch (const std::system_error& e) {
    raise_os_error(e.code(), py::none());
  }
}

}  // namespace

void bind_errors(py::module_&) { py::register_local_exception_translator(&translate); }

}  // namespace rwkvcpp
