// _core.Sampler: logits in, a token out.
#include "sampling/sampler.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.h"

namespace rwkvcpp {
namespace {

using Row = py::array_t<float, py::array::c_style | py::array::forcecast>;

// Calls run without the GIL, so two threads may meet in one sampler: they take turns.
struct SharedSampler {
  explicit SharedSampler(Sampler s) : sampler(std::move(s)) {}

  Sampler sampler;
  std::mutex mutex;
};

std::span<const float> span_of(const Row& logits) {
  if (logits.ndim() != 1) {
    throw py::value_error("logits have " + std::to_string(logits.ndim()) +
                          " dimensions, expected 1");
  }
  return {logits.data(), static_cast<std::size_t>(logits.size())};
}

TokenId sample(SharedSampler& self, const Row& logits) {
  const std::span<const float> row = span_of(logits);
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  return self.sampler.sample(row);
}

void observe(SharedSampler& self, TokenId token) {
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  self.sampler.observe(token);
}

py::array_t<float> probabilities(SharedSampler& self, const Row& logits) {
  const std::span<const float> row = span_of(logits);
  py::array_t<float> out(logits.size());
  const std::span<float> to(out.mutable_data(), row.size());
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  self.sampler.probabilities(row, to);
  return out;
}

/// The random generator's state, and the tokens that were counted with their counts.
using Memory = std::tuple<std::uint64_t, std::vector<std::size_t>, std::vector<double>>;

Memory memory(SharedSampler& self) {
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  const SamplerMemory kept = self.sampler.memory();
  Memory out;
  std::get<0>(out) = kept.rng;
  for (const auto& [token, count] : kept.occurrences) {
    std::get<1>(out).push_back(token);
    std::get<2>(out).push_back(count);
  }
  return out;
}

void restore(SharedSampler& self, const Memory& given) {
  const auto& [rng, tokens, counts] = given;
  if (tokens.size() != counts.size()) {
    throw py::value_error("there are " + std::to_string(counts.size()) + " counts, expected " +
                          std::to_string(tokens.size()) + ", one for each token");
  }
  SamplerMemory kept = {.rng = rng, .occurrences = {}};
  for (std::size_t i = 0; i < tokens.size(); ++i)
    kept.occurrences.push_back({tokens[i], counts[i]});
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  self.sampler.restore(std::move(kept));
}

std::unique_ptr<SharedSampler> clone(SharedSampler& self) {
  const py::gil_scoped_release nogil;
  const std::lock_guard lock(self.mutex);
  return std::make_unique<SharedSampler>(self.sampler);
}

std::unique_ptr<SharedSampler> make(double temperature, double top_p, std::int64_t top_k,
                                    double presence_penalty, double frequency_penalty,
                                    double penalty_decay, std::map<TokenId, double> logit_bias,
                                    std::vector<TokenId> banned_tokens, std::string order,
                                    std::uint64_t seed) {
  const SamplingParams params{.temperature = temperature,
                              .top_p = top_p,
                              .top_k = top_k,
                              .presence_penalty = presence_penalty,
                              .frequency_penalty = frequency_penalty,
                              .penalty_decay = penalty_decay,
                              .logit_bias = std::move(logit_bias),
                              .banned_tokens = std::move(banned_tokens),
                              .order = std::move(order)};
  return std::make_unique<SharedSampler>(Sampler(params, seed));
}

}  // namespace

void bind_sampler(py::module_& m) {
  py::class_<SharedSampler>(m, "Sampler",
                            "Draws tokens; keeps the random generator and the penalty counts of "
                            "one sequence.")
      .def(py::init(&make), py::kw_only(), py::arg("temperature"), py::arg("top_p"),
           py::arg("top_k"), py::arg("presence_penalty"), py::arg("frequency_penalty"),
           py::arg("penalty_decay"), py::arg("logit_bias"), py::arg("banned_tokens"),
           py::arg("order"), py::arg("seed"))
      .def("sample", &sample, py::arg("logits"),
           "One token from float32 [n_vocab]; the logits are not changed. Updates the counts.")
      .def("observe", &observe, py::arg("token"),
           "Count a token that was not sampled (a prompt's), as sample() would have.")
      .def("probabilities", &probabilities, py::arg("logits"),
           "The distribution that sample() would draw from, [n_vocab], summing to 1.")
      .def("memory", &memory, "(state of the random generator, tokens counted, their counts).")
      .def("restore", &restore, py::arg("memory"),
           "The reverse of memory(); ValueError for one that no sampler could have.")
      .def("clone", &clone);
}

}  // namespace rwkvcpp
