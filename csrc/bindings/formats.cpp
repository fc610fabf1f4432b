// Weight formats and the names of tensors in GGUF: what writers of files need.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "io/tensor_names.h"
#include "quant/cancel.h"
#include "quant/format.h"

namespace rwkvcpp {
namespace {

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

py::list weight_formats() {
  py::list list;
  for (const Format& f : formats()) {
    py::dict row;
    row["name"] = std::string(f.name);
    row["gguf_id"] = f.gguf_id;
    row["ggmf_code"] = f.ggmf_code;
    row["block_inputs"] = f.block_inputs;
    row["block_bytes"] = f.block_bytes;
    row["tile_bytes"] = f.tile_bytes;
    row["is_float"] = f.is_float;
    list.append(row);
  }
  return list;
}

void check_inputs(const Format& f, std::size_t n_inputs) {
  if (n_inputs > 0 && n_inputs % f.block_inputs == 0) return;
  throw std::invalid_argument(
      "rows of " + std::to_string(n_inputs) + " inputs were given, expected a multiple of " +
      std::to_string(f.block_inputs) + ", the block of " + std::string(f.name));
}

void check_importances(const FloatArray& importances, std::size_t n_inputs) {
  if (importances.ndim() == 1 && static_cast<std::size_t>(importances.shape(0)) == n_inputs) return;
  std::string shape;
  for (py::ssize_t i = 0; i < importances.ndim(); ++i) {
    shape += (i > 0 ? ", " : "") + std::to_string(importances.shape(i));
  }
  throw std::invalid_argument("importances are [" + shape + "], expected [" +
                              std::to_string(n_inputs) + "], one for each input");
}

using Directions = std::vector<InputStatistics::Directions>;

/// [directions, n_inputs], of which the first sixteen are taken, by input.
Directions by_input(const FloatArray& common, std::size_t n_inputs) {
  if (common.ndim() != 2 || static_cast<std::size_t>(common.shape(1)) != n_inputs) {
    throw std::invalid_argument("directions are of another shape, expected [directions, " +
                                std::to_string(n_inputs) + "]");
  }
  const std::size_t n =
      std::min(static_cast<std::size_t>(common.shape(0)), InputStatistics::kDirections);
  Directions directions(n_inputs, {{0.0f, 0.0f}});
  for (std::size_t k = 0; k < n; ++k) {
    const float* values = common.data() + k * n_inputs;
    for (std::size_t i = 0; i < n_inputs; ++i) {
      directions[i].half[k / fit::kAbreast].set(k % fit::kAbreast, values[i]);
    }
  }
  return directions;
}

void quantize_rows(const Format& f, const float* weights, std::size_t n_rows, std::size_t n_inputs,
                   const float* importances, bool closest, const Directions& common, char* out) {
  const std::size_t n_blocks = n_inputs / f.block_inputs;
  const auto by_rows =
      closest && f.quantize_closest != nullptr ? f.quantize_closest : f.quantize_weighted;
  if (importances == nullptr || by_rows == nullptr) {
    f.quantize(weights, n_rows * n_blocks, out);
    return;
  }
  const bool cancels = !common.empty() && f.cancel_errors != nullptr;
  const InputStatistics inputs{importances, common.data()};
  for (std::size_t r = 0; r < n_rows; ++r) {
    char* blocks = out + r * f.row_bytes(n_inputs);
    by_rows(weights + r * n_inputs, n_blocks, importances, blocks);
    if (cancels) f.cancel_errors(weights + r * n_inputs, n_blocks, inputs, blocks);
  }
}

py::bytes quantize(const std::string& name, const FloatArray& weights,
                   const std::optional<FloatArray>& importances, bool closest,
                   const std::optional<FloatArray>& common) {
  const Format& f = named_format(name);
  if (weights.ndim() != 2) {
    throw std::invalid_argument("weights have " + std::to_string(weights.ndim()) +
                                " dimensions, expected [rows, inputs]");
  }
  const auto n_rows = static_cast<std::size_t>(weights.shape(0));
  const auto n_inputs = static_cast<std::size_t>(weights.shape(1));
  check_inputs(f, n_inputs);
  if (importances) check_importances(*importances, n_inputs);
  if (common && !importances) {
    throw std::invalid_argument("directions are given without importances, expected both");
  }
  const float* importance = importances ? importances->data() : nullptr;
  const Directions directions = common ? by_input(*common, n_inputs) : Directions{};
  std::string blocks(n_rows * f.row_bytes(n_inputs), '\0');
  {
    const py::gil_scoped_release nogil;
    quantize_rows(f, weights.data(), n_rows, n_inputs, importance, closest, directions,
                  blocks.data());
  }
  return blocks;
}

py::array_t<float> dequantize(const std::string& name, const py::bytes& blocks,
                              std::size_t n_inputs) {
  const Format& f = named_format(name);
  check_inputs(f, n_inputs);
  const std::string_view bytes = blocks;
  const std::size_t row_bytes = f.row_bytes(n_inputs);
  if (bytes.size() % row_bytes != 0) {
    throw std::invalid_argument(std::to_string(bytes.size()) +
                                " bytes were given, expected a multiple of " +
                                std::to_string(row_bytes) + ", the size of a row");
  }
  const std::size_t n_rows = bytes.size() / row_bytes;
  py::array_t<float> weights({n_rows, n_inputs});
  float* out = weights.mutable_data();
  {
    const py::gil_scoped_release nogil;
    f.dequantize(bytes.data(), n_rows * n_inputs / f.block_inputs, out);
  }
  return weights;
}

}  // namespace

const Format& named_format(const std::string& name) {
  if (const Format* found = find_format(name)) return *found;
  std::string known;
  for (const Format& f : formats()) known += (known.empty() ? "" : ", ") + std::string(f.name);
  throw std::invalid_argument("weight format \"" + name + "\" is unknown, expected one of " +
                              known);
}

void bind_formats(py::module_& m) {
  m.def("weight_formats", &weight_formats,
        "name, gguf_id, ggmf_code, block_inputs, block_bytes, tile_bytes, is_float for each.");
  m.def("quantize", &quantize, py::arg("name"), py::arg("weights"),
        py::arg("importances") = py::none(), py::arg("closest") = false,
        py::arg("common") = py::none(),
        "Rows of float32 [rows, inputs] to the format's blocks, ggml's reference rounding; with "
        "importances [inputs], its rounding with an importance matrix; with closest, too, the "
        "least squares of errors that importances alone weigh; with common [directions, inputs], "
        "errors of a row cancel in the directions that its inputs have in common.");
  m.def("dequantize", &dequantize, py::arg("name"), py::arg("blocks"), py::arg("n_inputs"),
        "Blocks to float32 [rows, n_inputs].");
  m.def("gguf_tensor_name", &gguf_name, py::arg("architecture"), py::arg("name"),
        "The name that GGUF files have for a tensor of the official checkpoint, or None.");
}

}  // namespace rwkvcpp
