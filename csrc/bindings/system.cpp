// What the machine offers: instruction sets and threads.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "kernels/cpu_features.h"
#include "kernels/dispatch.h"
#include "ops/cpu/roofs.h"
#include "ops/ops.h"

namespace rwkvcpp {
namespace {

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const kernels::KernelTable* table : kernels::supported_tables()) {
    names.emplace_back(table->isa);
  }
  return names;
}

double read_roof_of(std::size_t n_bytes, int threads) {
  ThreadPool pool(threads);
  return read_roof(pool, kernels::active_table(), n_bytes);
}

double int8_roof_of(int threads) {
  ThreadPool pool(threads);
  return int8_roof(pool, kernels::active_table());
}

}  // namespace

void bind_system(py::module_& m) {
  m.def("instruction_sets", &instruction_sets,
        "Names of the kernel tables that this CPU can run, slowest first.");
  m.def(
      "active_instruction_set", [] { return kernels::active_table().isa; },
      "The table in use; RWKVCPP_ISA forces one.");
  m.def("cpu_features", &kernels::cpu_feature_names,
        "Features of this CPU that kernels could use.");
  m.def("default_threads", &default_threads, "Physical cores that this process may use.");
  m.def("read_roof", &read_roof_of, py::arg("n_bytes"), py::arg("threads"),
        py::call_guard<py::gil_scoped_release>());
  m.def("int8_roof", &int8_roof_of, py::arg("threads"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace rwkvcpp
