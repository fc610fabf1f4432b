// _core.WorldTokenizer: bytes in, ids out, and back.
#include "text/world_tokenizer.h"

#include <pybind11/stl.h>

#include "bindings/bindings.h"

namespace rwkvcpp {
namespace {

std::vector<TokenId> encode(const WorldTokenizer& tokenizer, const py::bytes& data) {
  const auto bytes = static_cast<std::string_view>(data);
  const py::gil_scoped_release nogil;
  return tokenizer.encode(bytes);
}

py::bytes decode(const WorldTokenizer& tokenizer, const std::vector<TokenId>& ids) {
  return tokenizer.decode(ids);
}

WorldTokenizer from_tokens(const std::vector<py::bytes>& tokens) {
  std::vector<std::string> bytes(tokens.begin(), tokens.end());
  const py::gil_scoped_release nogil;
  return WorldTokenizer(std::move(bytes));
}

}  // namespace

void bind_tokenizer(py::module_& m) {
  py::class_<WorldTokenizer>(m, "WorldTokenizer", "Greedy longest match over bytes.")
      .def_static("from_tokens", &from_tokens, py::arg("tokens"),
                  "tokens[id] is the byte string of id; b\"\" for ids that encode never emits.")
      .def_static("bytes_only", &WorldTokenizer::bytes_only, "256 tokens; id = byte.")
      .def_property_readonly("n_vocab", &WorldTokenizer::n_vocab)
      .def("encode", &encode, py::arg("data"))
      .def("decode", &decode, py::arg("ids"), "IndexError for an id out of range.")
      .def(
          "token_bytes",
          [](const WorldTokenizer& t, TokenId id) { return py::bytes(t.token_bytes(id)); },
          py::arg("id"));
}

}  // namespace rwkvcpp
