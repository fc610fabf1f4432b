// rwkvcpp._core: what Python sees of the engine, described in _core.pyi.
#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native core. Everything public is re-exported, with manners, by `rwkvcpp`.";
  m.attr("__version__") = RWKVCPP_VERSION;
  rwkvcpp::bind_errors(m);
  rwkvcpp::bind_system(m);
  rwkvcpp::bind_formats(m);
  rwkvcpp::bind_imatrix(m);
  rwkvcpp::bind_state(m);
  rwkvcpp::bind_model_file(m);
  rwkvcpp::bind_model(m);
  rwkvcpp::bind_tokenizer(m);
  rwkvcpp::bind_sampler(m);
}
