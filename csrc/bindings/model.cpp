// Model: loading, forward, and what a file says about itself.
#include "model/model.h"

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <map>
#include <stdexcept>

#include "bindings/bindings.h"
#include "bindings/metadata.h"
#include "bindings/text.h"
#include "bindings/tokens.h"

namespace rwkvcpp {
namespace {

/// Lets Ctrl-C through: Python's handlers only run when somebody asks.
void check_signals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

bool is_float32(const std::string& activations) {
  if (activations == "float32") return true;
  if (activations == "int8") return false;
  throw std::invalid_argument("activations is \"" + activations +
                              "\", expected \"int8\" or \"float32\"");
}

/// Called while loading, without the GIL.
Progress progress_to(const py::object& callback) {
  return [&callback](std::uint64_t done, std::uint64_t total) {
    const py::gil_scoped_acquire gil;
    check_signals();
    if (!callback.is_none()) callback(done, total);
  };
}

TypeMap type_map(const std::map<std::string, std::string>& types) {
  TypeMap map;
  for (const auto& [tensor, type] : types) map.emplace(tensor, named_format(type).type);
  return map;
}

std::unique_ptr<Model> load(const std::shared_ptr<ModelFile>& file,
                            const std::map<std::string, std::string>& types, int threads,
                            const std::string& activations, bool mmap, float group_norm_eps,
                            bool collect, const py::object& progress) {
  const ModelOptions options = {.threads = threads,
                                .float_activations = is_float32(activations),
                                .mmap = mmap,
                                .group_norm_eps = group_norm_eps,
                                .collect = collect,
                                .types = type_map(types)};
  const py::gil_scoped_release nogil;
  return Model::load(file, options, progress_to(progress));
}

/// What forward() needs to outlive the time without the GIL.
struct Batch {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::shared_ptr<State>> states;
  std::vector<Sequence> sequences;
  std::size_t n_tokens = 0;
};

std::pair<py::object, std::shared_ptr<State>> segment_from(const py::object& segment) {
  try {
    return py::cast<std::pair<py::object, std::shared_ptr<State>>>(segment);
  } catch (const py::cast_error&) {
    throw py::type_error("a segment is " + std::string(py::repr(segment)) +
                         ", expected (tokens, State)");
  }
}

Batch make_batch(const Model& model, const py::sequence& segments) {
  Batch batch;
  for (const py::object segment : segments) {
    const auto [tokens, state] = segment_from(segment);
    if (!state) throw py::type_error("a segment's state is None, expected a State");
    batch.tokens.push_back(tokens_from(tokens, model));
    batch.states.push_back(state);
    batch.n_tokens += batch.tokens.back().size();
  }
  for (std::size_t i = 0; i < batch.states.size(); ++i) {
    batch.sequences.push_back({batch.tokens[i], batch.states[i].get()});
  }
  return batch;
}

/// Called between chunks, without the GIL.
void check_signals_with_gil() {
  const py::gil_scoped_acquire gil;
  check_signals();
}

std::span<float> numbers_of(py::array_t<float>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

py::array_t<float> forward(Model& model, const py::sequence& segments, bool all_logits) {
  const Batch batch = make_batch(model, segments);
  const std::size_t n_rows = all_logits ? batch.n_tokens : batch.sequences.size();
  py::array_t<float> logits({n_rows, model.config().n_vocab});
  const std::span<float> out = numbers_of(logits);
  {
    const py::gil_scoped_release nogil;
    model.forward(batch.sequences, all_logits, out, check_signals_with_gil);
  }
  return logits;
}

py::array_t<float> hidden(Model& model, const py::sequence& segments) {
  const Batch batch = make_batch(model, segments);
  py::array_t<float> rows({batch.n_tokens, model.config().n_embd});
  const std::span<float> out = numbers_of(rows);
  {
    const py::gil_scoped_release nogil;
    model.hidden(batch.sequences, out, check_signals_with_gil);
  }
  return rows;
}

using LayerZeros = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, bool>;

std::vector<LayerZeros> zeros(Model& model) {
  std::vector<MixingZeros> layers;
  {
    const py::gil_scoped_release nogil;
    layers = model.zeros();
  }
  std::vector<LayerZeros> list;
  for (const MixingZeros& layer : layers) {
    list.emplace_back(layer.n_inputs, layer.n_active, layer.skippable_bytes, layer.by_columns);
  }
  return list;
}

/// {name: (float64 [n_in], number of rows, float32 [n_in, columns])}, in the order of the model.
py::dict importances(Model& model) {
  std::vector<Importance> found;
  {
    const py::gil_scoped_release nogil;
    found = model.importances();
  }
  py::dict by_name;
  for (const Importance& importance : found) {
    const InputMoments& inputs = importance.inputs;
    const auto n = static_cast<py::ssize_t>(inputs.squares.size());
    const py::array_t<double> squares(n, inputs.squares.data());
    const py::array_t<float> sketch({n, static_cast<py::ssize_t>(InputMoments::kSketch)},
                                    inputs.sketch.data());
    by_name[py::str(importance.name)] = py::make_tuple(squares, inputs.n_rows, sketch);
  }
  return by_name;
}

py::object metadata(const Model& model, const std::string& key) {
  const auto found = model.file().metadata.find(key);
  if (found == model.file().metadata.end()) return py::none();
  return metadata_value(found->second);
}

}  // namespace

void bind_model(py::module_& m) {
  m.def(
      "file_info",
      [](const std::shared_ptr<ModelFile>& file, const std::map<std::string, std::string>& types) {
        return file_info(file, type_map(types));
      },
      py::arg("file"), py::arg("types") = std::map<std::string, std::string>{},
      "What a model file holds, without loading its weights; with types, as it would load.");
  py::class_<Model>(m, "Model", "The weights of a file, ready to turn tokens into logits.")
      .def(py::init(&load), py::arg("file"), py::kw_only(),
           py::arg("types") = std::map<std::string, std::string>{}, py::arg("threads") = 0,
           py::arg("activations") = "int8", py::arg("mmap") = false,
           py::arg("group_norm_eps") = 64e-5F, py::arg("collect") = false,
           py::arg("progress") = py::none())
      .def_property_readonly("path",
                             [](const Model& model) { return path_text(model.file().path); })
      .def_property_readonly("version", [](const Model& model) { return model.config().version; })
      .def_property_readonly("n_vocab", [](const Model& model) { return model.config().n_vocab; })
      .def_property_readonly("n_embd", [](const Model& model) { return model.config().n_embd; })
      .def_property_readonly("n_layer", [](const Model& model) { return model.config().n_layer; })
      .def_property_readonly("n_ffn", [](const Model& model) { return model.config().n_ffn; })
      .def_property_readonly("head_size",
                             [](const Model& model) { return model.config().head_size; })
      .def_property_readonly("n_threads", &Model::n_threads)
      .def_property_readonly(
          "activations",
          [](const Model& model) { return model.options().float_activations ? "float32" : "int8"; })
      .def_property_readonly("mmap", [](const Model& model) { return model.options().mmap; })
      .def_property_readonly("weight_bytes", &Model::packed_bytes)
      .def_property_readonly("token_bytes_read", &Model::bytes_per_token)
      .def_property_readonly(
          "weight_type", [](const Model& model) { return std::string(model.main_format().name); })
      .def("metadata", &metadata, py::arg("key"), "A GGUF metadata value, or None.")
      .def(
          "zeros", &zeros,
          "Of each layer's ffn.value: inputs met, of them not zero, bytes, and whether by columns.")
      .def("importances", &importances,
           "Of each matrix: sums of the squares of its inputs, of how many rows, and their second "
           "moments times sketch_signs().")
      .def_property_readonly("identity",
                             [](const Model& model) { return py::bytes(model.identity()); })
      .def_property_readonly("exact_identity",
                             [](const Model& model) { return py::bytes(model.exact_identity()); })
      .def_property_readonly("description",
                             [](const Model& model) { return model.state_layout().description; })
      .def("initial_state", &Model::initial_state)
      .def("forward", &forward, py::arg("segments"), py::arg("all_logits") = false,
           "Advance every state over its tokens in one call; return logits.")
      .def("hidden", &hidden, py::arg("segments"),
           "Advance every state, and return what the head would meet after each token.");
}

}  // namespace rwkvcpp
