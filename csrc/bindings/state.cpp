// State: named arrays out of it and into it.
#include "model/state.h"

#include <pybind11/numpy.h>

#include "bindings/bindings.h"

namespace rwkvcpp {
namespace {

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

py::dict arrays(State& state) {
  const auto lock = claim(state);
  py::dict named;
  for (const StateArray& array : state.layout().arrays) {
    py::array_t<float> values(array.shape);
    state.read(array, values.mutable_data());
    named[py::str(array.name)] = std::move(values);
  }
  return named;
}

std::vector<std::size_t> shape_of(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

void assign(State& state, const py::dict& given) {
  std::vector<FloatArray> kept;  // conversions live until the end
  std::vector<NamedArray> named;
  for (const auto& [name, value] : given) {
    const FloatArray& values = kept.emplace_back(py::cast<FloatArray>(value));
    named.push_back({py::cast<std::string>(name), shape_of(values), values.data()});
  }
  const auto lock = claim(state);
  state.assign(named);
}

}  // namespace

void bind_state(py::module_& m) {
  py::class_<State, std::shared_ptr<State>>(m, "State", "Recurrent state of one sequence.")
      .def_property_readonly("nbytes", &State::n_bytes)
      .def_property_readonly("n_tokens", &State::n_tokens,
                             "Tokens consumed since the initial state.")
      .def("clone",
           [](State& state) {
             const auto lock = claim(state);
             return state.clone();
           })
      .def("arrays", &arrays, "Copies, by name.")
      .def("assign", &assign, py::arg("arrays"),
           "The reverse of arrays(); StateError on a missing, unknown or wrongly shaped array.");
}

}  // namespace rwkvcpp
