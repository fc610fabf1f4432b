// State: named arrays out of it and into it.
#include "model/state.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

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

/// (name, shape) of the arrays, in the order of values().
std::vector<std::pair<std::string, std::vector<std::size_t>>> layout(const State& state) {
  std::vector<std::pair<std::string, std::vector<std::size_t>>> arrays;
  for (const StateArray& array : state.layout().arrays) {
    arrays.emplace_back(array.name, array.shape);
  }
  return arrays;
}

py::array_t<float> values(State& state) {
  const auto lock = claim(state);
  py::array_t<float> all(static_cast<py::ssize_t>(state.layout().n_values()));
  float* out = all.mutable_data();
  const py::gil_scoped_release nogil;
  state.read_all(out);
  return all;
}

void restore(State& state, const FloatArray& values, std::uint64_t n_tokens, std::uint64_t hash) {
  const std::span<const float> all(values.data(), static_cast<std::size_t>(values.size()));
  const auto lock = claim(state);
  const py::gil_scoped_release nogil;
  state.restore(all, {n_tokens, hash});
}

std::uint64_t tokens_hash(State& state) {
  const auto lock = claim(state);
  return state.history().hash;
}

std::uint64_t hash_tokens(const std::vector<TokenId>& tokens, std::uint64_t start) {
  History history = {.n_tokens = 0, .hash = start};
  history.add(tokens);
  return history.hash;
}

}  // namespace

void bind_state(py::module_& m) {
  m.def("hash_tokens", &hash_tokens, py::arg("tokens"), py::arg("start") = History{}.hash,
        "The tokens_hash of a state of `start` after these tokens.");
  py::class_<State, std::shared_ptr<State>>(m, "State", "Recurrent state of one sequence.")
      .def_property_readonly("nbytes", &State::n_bytes)
      .def_property_readonly("n_tokens", &State::n_tokens,
                             "Tokens consumed since the initial state.")
      .def_property_readonly("tokens_hash", &tokens_hash,
                             "Of the tokens consumed, and of the values it began with.")
      .def_property_readonly("layout", &layout, "(name, shape) of the arrays, in order.")
      .def("values", &values, "All arrays one behind the other; StateError unless finite.")
      .def("restore", &restore, py::arg("values"), py::arg("n_tokens"), py::arg("tokens_hash"),
           "The reverse of values(), with where the state comes from.")
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
