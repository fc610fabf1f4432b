// ggmf, all numbers int32:
//
//   "fmgg" version n_vocab n_embd n_layer type
//   tensors until the end: n_dims name_length type dims... name data
//
// Nothing is aligned, and nothing says how many tensors there are: a file that
// ends between two tensors is told from a whole one by what is missing.
#include "io/ggmf.h"

#include <array>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/byte_reader.h"
#include "io/tensor_entry.h"
#include "io/tensor_names.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kMaxDims = 3;
constexpr std::size_t kLongestName = 255;

// The index is the code in the file, which is not GGUF's.
constexpr std::string_view kTypeNames[] = {
    "FP32", "FP16", "Q4_0", "Q4_1", "Q4_1_O", "Q4_2", "Q4_3", "Q5_0", "Q5_1",
    "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K",   "Q5_K", "Q6_K", "Q8_K",
};
constexpr bool is_removed(std::int32_t code) { return code >= 4 && code <= 6; }

struct Header {
  std::int32_t version, n_vocab, n_embd, n_layer, type;
};

const Format& format_of(const ByteReader& reader, std::int32_t version, std::int32_t code,
                        const std::string& what) {
  if (code < 0 || code >= std::ssize(kTypeNames)) {
    reader.fail(what + " has type " + std::to_string(code) + ", expected 0 to " +
                std::to_string(std::ssize(kTypeNames) - 1));
  }
  const std::string name(kTypeNames[code]);
  if (is_removed(code)) {
    reader.unsupported(what + " is " + name +
                       ", a type that rwkv.cpp removed; quantize the FP16 file again");
  }
  const Format* format = find_ggmf_format(code);
  if (format == nullptr) {
    reader.unsupported(what + " is " + name + ", this build reads " + readable_formats());
  }
  if (version == 100 && !format->is_float) {
    reader.unsupported(what + " is " + name +
                       " in the layout of version 100, expected 101; quantize the FP16 file again");
  }
  return *format;
}

std::int32_t read_positive(ByteReader& reader, std::string_view what) {
  const auto n = reader.number<std::int32_t>(what);
  if (n < 1) reader.fail(std::string(what) + " is " + std::to_string(n) + ", expected 1 or more");
  return n;
}

Header read_header(ByteReader& reader) {
  reader.skip(4, "the magic");
  Header header = {};
  header.version = reader.number<std::int32_t>("the version");
  if (header.version != 100 && header.version != 101) {
    reader.unsupported("version is " + std::to_string(header.version) + ", expected 100 or 101");
  }
  header.n_vocab = read_positive(reader, "n_vocab");
  header.n_embd = read_positive(reader, "n_embd");
  header.n_layer = read_positive(reader, "n_layer");
  header.type = reader.number<std::int32_t>("the type of the file");
  format_of(reader, header.version, header.type, "the file");
  return header;
}

std::vector<std::uint64_t> read_dims(ByteReader& reader, std::int32_t n_dims) {
  std::vector<std::uint64_t> dims;
  for (std::int32_t i = 0; i < n_dims; ++i) {
    dims.push_back(static_cast<std::uint64_t>(read_positive(reader, "a dimension")));
  }
  return dims;
}

TensorInfo read_tensor(ByteReader& reader, std::int32_t version) {
  const auto n_dims = reader.number<std::int32_t>("the number of dimensions");
  const auto name_length = reader.number<std::int32_t>("the length of the name");
  const auto code = reader.number<std::int32_t>("the type");
  if (n_dims < 1 || n_dims > static_cast<std::int32_t>(kMaxDims)) {
    reader.fail("has " + std::to_string(n_dims) + " dimensions, expected 1 to " +
                std::to_string(kMaxDims));
  }
  const std::vector<std::uint64_t> dims = read_dims(reader, n_dims);
  if (name_length < 0) reader.fail("the length of the name is " + std::to_string(name_length));
  const std::string name =
      read_name(reader, static_cast<std::uint64_t>(name_length), kLongestName, "the name");
  const Format& format = format_of(reader, version, code, "tensor " + name);
  TensorInfo tensor = make_tensor(reader, name, format, dims);
  tensor.offset = reader.position();
  reader.skip(tensor.n_bytes, "the data of " + name);
  return tensor;
}

std::vector<TensorInfo> read_tensors(ByteReader& reader, std::int32_t version) {
  std::vector<TensorInfo> tensors;
  while (reader.left() > 0) {
    reader.enter("entry " + std::to_string(tensors.size()));
    tensors.push_back(read_tensor(reader, version));
  }
  return tensors;
}

void check_complete(const ModelFile& file) {
  for (const char* name : {"emb.weight", "ln_out.weight", "ln_out.bias", "head.weight"}) {
    if (file.find(name) == nullptr) {
      throw ModelFormatError(file.path + ": has no tensor " + name + " among its " +
                             std::to_string(file.tensors.size()) + "; the file may be cut short");
    }
  }
}

void check_header(const ModelFile& file, const Header& header) {
  const std::vector<std::size_t> expected = {static_cast<std::size_t>(header.n_vocab),
                                             static_cast<std::size_t>(header.n_embd)};
  if (file.find("emb.weight")->shape != expected) {
    throw ModelFormatError(file.path + ": tensor emb.weight is not [n_vocab, n_embd] = [" +
                           std::to_string(header.n_vocab) + ", " + std::to_string(header.n_embd) +
                           "] of the header");
  }
  const std::size_t n_blocks = count_blocks(file.tensors);
  if (n_blocks != static_cast<std::size_t>(header.n_layer)) {
    throw ModelFormatError(file.path + ": has tensors of " + std::to_string(n_blocks) +
                           " layers, expected " + std::to_string(header.n_layer));
  }
}

}  // namespace

void read_ggmf(std::span<const std::uint8_t> bytes, ModelFile& file) {
  ByteReader reader(file.path, bytes);
  const Header header = read_header(reader);
  file.container = "rwkv.cpp " + std::to_string(header.version);
  add_in_checkpoint_form(file, read_tensors(reader, header.version));
  check_complete(file);
  check_header(file, header);
  const bool has_raw_decay = file.find("blocks.0.att.time_decay_w1") != nullptr;
  file.decay_applied = file.find("blocks.0.att.time_decay") != nullptr && !has_raw_decay;
}

}  // namespace rwkvcpp
