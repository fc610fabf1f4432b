#include "bindings/tokens.h"

#include <pybind11/numpy.h>

#include <cstdint>

namespace rwkvcpp {
namespace {

namespace py = pybind11;

TokenId checked(std::int64_t token, std::size_t position, const Model& model) {
  model.check_token(token, position);  // and so fits a TokenId
  return static_cast<TokenId>(token);
}

std::int64_t integer(const py::handle& item) {
  const std::string type = Py_TYPE(item.ptr())->tp_name;
  if (PyBool_Check(item.ptr()) || type.starts_with("numpy.bool") || !PyIndex_Check(item.ptr())) {
    throw py::type_error("a token is of type " + type + ", expected an integer");
  }
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const std::int64_t value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0) throw py::index_error("a token is too large for any vocabulary");
  return value;
}

std::vector<TokenId> from_sequence(const py::sequence& sequence, const Model& model) {
  std::vector<TokenId> tokens;
  for (const py::object item : sequence) {
    tokens.push_back(checked(integer(item), tokens.size(), model));
  }
  return tokens;
}

std::vector<TokenId> from_array(const py::array& array, const Model& model) {
  const char kind = array.dtype().kind();
  if (array.ndim() != 1 || (kind != 'i' && kind != 'u')) {
    throw py::type_error("tokens are an array of " + std::string(py::str(array.dtype())) +
                         " with " + std::to_string(array.ndim()) +
                         " dimensions, expected one dimension of integers");
  }
  if (kind == 'u' && array.itemsize() == 8) {  // may not fit int64
    return from_sequence(py::sequence(array.attr("tolist")()), model);
  }
  using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;
  const Int64Array values = Int64Array::ensure(array);
  if (!values) throw py::error_already_set();
  std::vector<TokenId> tokens;
  for (py::ssize_t i = 0; i < values.size(); ++i) {
    tokens.push_back(checked(values.data()[i], tokens.size(), model));
  }
  return tokens;
}

}  // namespace

std::vector<TokenId> tokens_from(const py::handle& tokens, const Model& model) {
  if (py::isinstance<py::array>(tokens)) {
    return from_array(py::reinterpret_borrow<py::array>(tokens), model);
  }
  const bool is_text = PyUnicode_Check(tokens.ptr()) || PyBytes_Check(tokens.ptr());
  if (is_text || !PySequence_Check(tokens.ptr())) {
    throw py::type_error("tokens are of type " + std::string(Py_TYPE(tokens.ptr())->tp_name) +
                         ", expected a sequence of integers");
  }
  return from_sequence(py::reinterpret_borrow<py::sequence>(tokens), model);
}

}  // namespace rwkvcpp
