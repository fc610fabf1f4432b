// The parts of the native module; module.cpp puts them together.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "quant/format.h"

namespace rwkvcpp {

namespace py = pybind11;

/// The weight format of that name; std::invalid_argument with those there are.
const Format& named_format(const std::string& name);

void bind_errors(py::module_& m);
void bind_formats(py::module_& m);
void bind_imatrix(py::module_& m);
void bind_model(py::module_& m);
void bind_model_file(py::module_& m);
void bind_sampler(py::module_& m);
void bind_state(py::module_& m);
void bind_system(py::module_& m);
void bind_tokenizer(py::module_& m);

}  // namespace rwkvcpp
