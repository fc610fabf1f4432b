// rwkv.cpp files: names, shapes and derived facts; and every way to be wrong.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "doctest.h"
#include "io/model_file.h"
#include "model_bytes.h"

namespace {

using namespace rwkvcpp;
using namespace rwkvcpp::testing;

constexpr std::int32_t kMagic = 0x67676d66;

struct Tensor {
  std::string name;
  std::vector<std::int32_t> dims;  // fastest first, as in the file
  std::int32_t type = 0;

  std::size_t n_bytes() const {
    const std::map<std::int32_t, std::size_t> bytes_of_32 = {{0, 128}, {1, 64}, {2, 18}, {8, 24}};
    std::size_t n = 1;
    for (const std::int32_t dim : dims) n *= static_cast<std::size_t>(dim);
    return n * bytes_of_32.at(type) / 32;
  }
};

struct File {
  std::int32_t version = 101, n_vocab = 4, n_embd = 32, n_layer = 1, type = 0;
  std::vector<Tensor> tensors;

  Bytes header() const {
    Bytes bytes;
    for (const std::int32_t n : {kMagic, version, n_vocab, n_embd, n_layer, type}) bytes.number(n);
    return bytes;
  }

  std::string bytes() const {
    Bytes bytes = header();
    for (const Tensor& t : tensors) {
      bytes.number(static_cast<std::int32_t>(t.dims.size()));
      bytes.number(static_cast<std::int32_t>(t.name.size())).number(t.type);
      for (const std::int32_t dim : t.dims) bytes.number(dim);
      bytes.text(t.name).zeros(t.n_bytes());
    }
    return bytes.str();
  }

  std::shared_ptr<const ModelFile> parsed() const {
    const std::string data = bytes();
    return ModelFile::parse("test", as_bytes(data));
  }
};

// head.weight comes last, as rwkv.cpp's converter writes it.
File with_block(const std::vector<Tensor>& block) {
  File file;
  file.tensors = {{"emb.weight", {32, 4}}};
  file.tensors.insert(file.tensors.end(), block.begin(), block.end());
  file.tensors.insert(file.tensors.end(),
                      {{"ln_out.weight", {32}}, {"ln_out.bias", {32}}, {"head.weight", {32, 4}}});
  return file;
}

File version_4() {
  return with_block({{"blocks.0.att.time_decay", {32}},
                     {"blocks.0.att.time_first", {32}},
                     {"blocks.0.att.time_mix_k", {32, 1, 1}},
                     {"blocks.0.att.key.weight", {32, 64}, 2}});
}

// A header and one hand-made entry.
std::string with_entry(const Bytes& entry) { return File().header().text(entry.str()).str(); }

Bytes entry(std::int32_t n_dims, std::int32_t name_length, std::int32_t type) {
  return Bytes().number(n_dims).number(name_length).number(type);
}

}  // namespace

TEST_CASE("ggmf: version 4 keeps its vectors, and its decay is applied") {
  const auto model = version_4().parsed();
  CHECK(model->container == "rwkv.cpp 101");
  CHECK(model->architecture == "");
  CHECK(model->decay_applied);
  CHECK(!model->head_size);
  CHECK(shape_of(*model, "emb.weight") == "[4, 32]");
  CHECK(shape_of(*model, "blocks.0.att.time_decay") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.time_mix_k") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.key.weight") == "[64, 32]");
  CHECK(model->find("blocks.0.att.key.weight")->type == WeightType::kQ4_0);
  CHECK(model->find("blocks.0.att.key.weight")->n_bytes == 64 * 18);
}

TEST_CASE("ggmf: version 5.0 keeps one number per head") {
  const auto model = with_block({{"blocks.0.att.ln_x.weight", {32}},
                                 {"blocks.0.att.time_decay", {1, 1, 4}},
                                 {"blocks.0.att.time_first", {1, 1, 4}},
                                 {"blocks.0.att.time_faaaa", {1, 4}}})
                         .parsed();
  CHECK(shape_of(*model, "blocks.0.att.time_decay") == "[4]");
  CHECK(shape_of(*model, "blocks.0.att.time_first") == "[4]");
  CHECK(shape_of(*model, "blocks.0.att.time_faaaa") == "[4]");
  CHECK(model->decay_applied);
  CHECK(model->head_size == 8);
}

TEST_CASE("ggmf: version 5.2 keeps heads and channels apart, even a single head") {
  for (const std::int32_t n_head : {1, 2, 4}) {
    const std::int32_t head_size = 32 / n_head;
    const auto model = with_block({{"blocks.0.att.ln_x.weight", {32}},
                                   {"blocks.0.att.gate.weight", {32, 32}},
                                   {"blocks.0.att.time_decay", {1, head_size, n_head}},
                                   {"blocks.0.att.time_faaaa", {1, head_size, n_head}}})
                           .parsed();
    const std::string shape = "[" + std::to_string(n_head) + ", " + std::to_string(head_size) + "]";
    CHECK(shape_of(*model, "blocks.0.att.time_decay") == shape);
    CHECK(shape_of(*model, "blocks.0.att.time_faaaa") == shape);
    CHECK(model->head_size == static_cast<std::size_t>(head_size));
  }
}

TEST_CASE("ggmf: version 6 has its fused low-rank matrices cut, its decay raw and flat") {
  const auto model = with_block({{"blocks.0.att.ln_x.weight", {32}},
                                 {"blocks.0.att.time_maa_x", {32}},
                                 {"blocks.0.att.time_maa_w1", {32, 40}},
                                 {"blocks.0.att.time_maa_w2", {8, 32, 5}},
                                 {"blocks.0.att.time_decay", {1, 16, 2}},
                                 {"blocks.0.att.time_decay_w1", {32, 1}},
                                 {"blocks.0.att.time_decay_w2", {1, 32}},
                                 {"blocks.0.att.time_faaaa", {1, 16, 2}}})
                         .parsed();
  CHECK(shape_of(*model, "blocks.0.att.time_decay") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.time_faaaa") == "[2, 16]");
  CHECK(shape_of(*model, "blocks.0.att.time_maa_w1") == "[40, 32]");
  CHECK(shape_of(*model, "blocks.0.att.time_decay_w1") == "[1, 32]");  // rank 1 is a matrix
  CHECK(shape_of(*model, "blocks.0.att.time_decay_w2") == "[32, 1]");
  CHECK(shape_of(*model, "blocks.0.att.time_maa_w2") == "missing");
  CHECK(!model->decay_applied);
  CHECK(model->head_size == 16);

  std::uint64_t offset = model->find("blocks.0.att.time_maa_w2.w")->offset;
  for (const char* slice : {"w", "k", "v", "r", "g"}) {
    const TensorInfo* tensor = model->find(std::string("blocks.0.att.time_maa_w2.") + slice);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == std::vector<std::size_t>{32, 8});
    CHECK(tensor->offset == offset);
    CHECK(tensor->n_bytes == 32 * 8 * 4);
    offset += tensor->n_bytes;
  }
}

TEST_CASE("ggmf: version 7 has its lerps cut and its bonus flat") {
  const auto model = with_block({{"blocks.0.att.ln_x.weight", {32}},
                                 {"blocks.0.att.x_rwkvag", {32, 1, 6}},
                                 {"blocks.0.att.w0", {32, 1, 1}},
                                 {"blocks.0.att.w1", {32, 1}, 1},
                                 {"blocks.0.att.r_k", {8, 4}},
                                 {"blocks.0.ffn.x_k", {32, 1, 1}}})
                         .parsed();
  CHECK(shape_of(*model, "blocks.0.att.w0") == "[32]");
  CHECK(shape_of(*model, "blocks.0.att.w1") == "[1, 32]");
  CHECK(shape_of(*model, "blocks.0.att.r_k") == "[32]");
  CHECK(shape_of(*model, "blocks.0.ffn.x_k") == "[32]");
  CHECK(model->head_size == 8);
  CHECK(!model->decay_applied);

  std::uint64_t offset = model->find("blocks.0.att.x_r")->offset;
  for (const char* slice : {"r", "w", "k", "v", "a", "g"}) {
    const TensorInfo* tensor = model->find(std::string("blocks.0.att.x_") + slice);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == std::vector<std::size_t>{32});
    CHECK(tensor->offset == offset);
    offset += 32 * 4;
  }
}

TEST_CASE("ggmf: unknown names stay for the model to list") {
  const auto model = with_block({{"blocks.0.att.odd", {32, 1, 3}}}).parsed();
  CHECK(model->find("blocks.0.att.odd")->file_name == "blocks.0.att.odd");
}

TEST_CASE("ggmf: a file cut at any byte is an error") {
  const std::string whole = version_4().bytes();
  REQUIRE(outcome(whole) == "ok");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK(is_error(outcome(whole.substr(0, n))));
  }
}

TEST_CASE("ggmf: any single byte changed is an error or a file in bounds, never a crash") {
  const std::string whole = version_4().bytes();
  for (std::size_t i = 0; i < 200; ++i) {
    for (const char value : {'\x00', '\x01', '\x7f', '\x80', '\xff'}) {
      std::string changed = whole;
      changed[i] = value;
      const std::string result = outcome(changed);
      CHECK((result == "ok" || is_error(result)));
    }
  }
}

TEST_CASE("ggmf: a wrong header is refused with the number found") {
  const auto header = [](auto change) {
    File file = version_4();
    change(file);
    return outcome(file.bytes());
  };
  CHECK(header([](File& f) { f.version = 102; }) ==
        Contains("UnsupportedError: test: header: version is 102, expected 100 or 101"));
  CHECK(header([](File& f) { f.n_vocab = 0; }) == Contains("n_vocab is 0, expected 1 or more"));
  CHECK(header([](File& f) { f.n_embd = -32; }) == Contains("n_embd is -32"));
  CHECK(header([](File& f) { f.n_layer = INT32_MAX; }) ==
        Contains("has tensors of 1 layers, expected 2147483647"));
  CHECK(header([](File& f) { f.n_vocab = 5; }) ==
        Contains("emb.weight is not [n_vocab, n_embd] = [5, 32]"));
  CHECK(header([](File& f) { f.type = 17; }) == Contains("the file has type 17, expected 0 to 16"));
  CHECK(header([](File& f) { f.type = 4; }) == Contains("the file is Q4_1_O"));
  CHECK(header([](File& f) { f.version = 100; }) ==
        Contains("Q4_0 in the layout of version 100, expected 101"));
}

TEST_CASE("ggmf: float files of version 100 are read") {
  File file = with_block({{"blocks.0.ln1.bias", {32}}});
  file.version = 100;
  CHECK(file.parsed()->container == "rwkv.cpp 100");
}

TEST_CASE("ggmf: removed and unread types are refused by name") {
  const auto type = [](std::int32_t code) {
    return outcome(with_entry(entry(1, 1, code).number<std::int32_t>(32).text("x").zeros(4096)));
  };
  CHECK(type(4) == Contains("UnsupportedError: test: entry 0: tensor x is Q4_1_O"));
  CHECK(type(5) == Contains("tensor x is Q4_2, a type that rwkv.cpp removed"));
  CHECK(type(6) == Contains("tensor x is Q4_3"));
  CHECK(type(16) == Contains("tensor x is Q8_K, this build reads F32"));
  CHECK(type(17) == Contains("ModelFormatError: test: entry 0: tensor x has type 17"));
  CHECK(type(-1) == Contains("tensor x has type -1, expected 0 to 16"));
}

TEST_CASE("ggmf: a wrong entry is refused with the number found") {
  const auto one = [] { return entry(1, 1, 0); };
  CHECK(outcome(with_entry(entry(0, 1, 0))) == Contains("has 0 dimensions, expected 1 to 3"));
  CHECK(outcome(with_entry(entry(4, 1, 0))) == Contains("has 4 dimensions"));
  CHECK(outcome(with_entry(entry(INT32_MAX, 1, 0))) == Contains("2147483647 dimensions"));
  CHECK(outcome(with_entry(one().number(0).text("x"))) == Contains("a dimension is 0"));
  CHECK(outcome(with_entry(one().number(-5).text("x"))) == Contains("a dimension is -5"));
  CHECK(outcome(with_entry(one().number(INT32_MAX).text("x"))) ==
        Contains("the data of x takes 8589934588 bytes from byte"));
  CHECK(outcome(with_entry(
            entry(3, 1, 0).number(INT32_MAX).number(INT32_MAX).number(INT32_MAX).text("x"))) ==
        Contains("tensor x is larger than any file"));
  CHECK(outcome(with_entry(entry(1, 1, 2).number(33).text("x"))) ==
        Contains("tensor x is Q4_0 with rows of 33, expected a multiple of 32"));
  CHECK(outcome(with_entry(entry(1, 0, 0).number(1))) == Contains("the name is 0 bytes long"));
  CHECK(outcome(with_entry(entry(1, -1, 0).number(1))) == Contains("length of the name is -1"));
  CHECK(outcome(with_entry(entry(1, 300, 0).number(1))) ==
        Contains("the name is 300 bytes long, expected 1 to 255"));
  CHECK(outcome(with_entry(entry(1, 2, 0).number(1).text("\xff\x1b"))) ==
        Contains("the name is \"\\xff\\x1b\", expected printable UTF-8"));
}

TEST_CASE("ggmf: tensors that are there twice or not at all are named") {
  File twice = version_4();
  twice.tensors.push_back({"ln_out.bias", {32}});
  CHECK(outcome(twice.bytes()) == Contains("has tensor ln_out.bias twice"));

  File slice_too = with_block({{"blocks.0.att.x_rwkvag", {32, 1, 6}}, {"blocks.0.att.x_k", {32}}});
  CHECK(outcome(slice_too.bytes()) ==
        Contains("has tensor blocks.0.att.x_k twice, as blocks.0.att.x_rwkvag[2] and as"));

  File without_head = version_4();
  without_head.tensors.pop_back();
  CHECK(outcome(without_head.bytes()) == Contains("has no tensor head.weight among its"));
  CHECK(outcome(File().bytes()) == Contains("has no tensor emb.weight among its 0"));
}

TEST_CASE("ggmf: a fused tensor with the wrong number of slices is refused") {
  CHECK(outcome(with_block({{"blocks.0.att.x_rwkvag", {32, 1, 5}}}).bytes()) ==
        Contains("blocks.0.att.x_rwkvag holds 5 slices, expected 6 (rwkvag)"));
  CHECK(outcome(with_block({{"blocks.0.att.time_maa_w2", {8, 32, 4}}}).bytes()) ==
        Contains("holds 4 slices, expected 5 (wkvrg)"));
  CHECK(outcome(with_block({{"blocks.0.att.x_rwkvag", {6}}}).bytes()) ==
        Contains("holds 1 slices, expected 6"));
}

TEST_CASE("ggmf: heads that do not divide the channels are refused") {
  const File file =
      with_block({{"blocks.0.att.ln_x.weight", {32}}, {"blocks.0.att.time_decay", {1, 1, 5}}});
  CHECK(outcome(file.bytes()) == Contains("has 5 heads, expected a divisor of the 32"));
}

TEST_CASE("model file: other formats are recognised and refused") {
  CHECK(outcome("") == "ModelFormatError: test: is empty, expected GGUF or rwkv.cpp");
  CHECK(outcome("GGU") == Contains("begins with \"GGU\", expected \"GGUF\""));
  CHECK(outcome("\x01\x02\x03\x04") == Contains("begins with \"\\x01\\x02\\x03\\x04\""));
  CHECK(outcome("PK\x03\x04...") == Contains("UnsupportedError: test: is a zip archive"));
  CHECK(outcome(std::string("\x40\0\0\0\0\0\0\0{\"a\"", 12)) == Contains("a safetensors file"));
  CHECK(outcome("ggmf") == Contains("a big-endian rwkv.cpp file"));
}

TEST_CASE("model file: bytes parsed from memory cannot be read later") {
  const auto model = version_4().parsed();
  char out = 0;
  CHECK_THROWS_AS(model->read(model->tensors[0], 0, 1, &out), Error);
  CHECK_THROWS_AS(model->mapped(model->tensors[0]), Error);
}

TEST_CASE("model file: reading past a tensor's end is refused") {
  const auto folder = shared_folder("models");
  if (!folder) return;
  const auto model = ModelFile::open((*folder / "tiny-rwkv-4v0-660K-FP32.bin").string());
  const TensorInfo& tensor = *model->find("ln_out.bias");
  std::vector<std::uint8_t> copied(tensor.n_bytes + 1);
  model->read(tensor, 0, tensor.n_bytes, copied.data());
  CHECK(std::equal(copied.begin(), copied.end() - 1, model->mapped(tensor)));
  CHECK_THROWS_AS(model->read(tensor, 1, tensor.n_bytes, copied.data()), std::out_of_range);
}

TEST_CASE("ggmf: models made by rwkv.cpp are read") {
  const auto folder = shared_folder("models");
  if (!folder) return;
  const auto open = [&](const char* name) { return ModelFile::open(*folder / name); };

  const auto v4 = open("tiny-rwkv-4v0-660K-Q5_1.bin");
  CHECK(v4->tensors.size() == 78);
  CHECK(!v4->head_size);
  CHECK(v4->find("blocks.3.att.key.weight")->type == WeightType::kQ5_1);

  const auto v5_0 = open("tiny-rwkv-5v1-730K-FP32.bin");
  CHECK(shape_of(*v5_0, "blocks.11.att.time_first") == "[8]");
  CHECK(v5_0->head_size == 8);
  CHECK(v5_0->decay_applied);

  const auto v5_2 = open("tiny-rwkv-5v2-730K-FP32.bin");
  CHECK(shape_of(*v5_2, "blocks.11.att.time_faaaa") == "[8, 8]");
  CHECK(v5_2->head_size == 8);

  const auto v6 = open("tiny-rwkv-6v0-3m-Q5_1.bin");
  CHECK(shape_of(*v6, "blocks.11.att.time_maa_w2.g") == "[128, 32]");
  CHECK(shape_of(*v6, "blocks.11.att.time_faaaa") == "[16, 8]");
  CHECK(shape_of(*v6, "blocks.11.att.time_decay") == "[128]");
  CHECK(!v6->decay_applied);

  const auto v7 = open("tiny-rwkv-7v0-834K-FP16.bin");
  CHECK(shape_of(*v7, "blocks.11.att.x_g") == "[64]");
  CHECK(shape_of(*v7, "blocks.11.att.r_k") == "[64]");
  CHECK(v7->find("blocks.11.att.g1")->type == WeightType::kF16);
  CHECK(v7->head_size == 64);
}
