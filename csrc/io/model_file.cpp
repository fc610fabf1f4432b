// The list of containers: a file's first bytes say which reader it gets.
#include "io/model_file.h"

#include <functional>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/mapped_file.h"
#include "io/ggmf.h"
#include "io/gguf.h"
#include "io/printable.h"
#include "io/tensor_names.h"

namespace rwkvcpp {
namespace {

struct Container {
  std::string_view magic;
  void (*read)(std::span<const std::uint8_t> bytes, ModelFile& file);
};

constexpr Container kContainers[] = {{"GGUF", read_gguf}, {"fmgg", read_ggmf}};

// What people try first; each is a sentence better than "unknown bytes".
struct Foreign {
  std::size_t offset;
  std::string_view magic;
  std::string_view what;
};

constexpr Foreign kForeign[] = {
    {0, "PK\x03\x04", "a zip archive, as PyTorch checkpoints are"},
    {8, "{\"", "a safetensors file"},
    {0, "ggmf", "a big-endian rwkv.cpp file"},
};

std::string_view text(std::span<const std::uint8_t> bytes, std::size_t offset, std::size_t n) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.substr(std::min(offset, all.size()), n);
}

[[noreturn]] void refuse(const std::string& path, std::span<const std::uint8_t> bytes) {
  for (const Foreign& foreign : kForeign) {
    if (text(bytes, foreign.offset, foreign.magic.size()) == foreign.magic) {
      throw UnsupportedError(path + ": is " + std::string(foreign.what) +
                             ", expected GGUF or rwkv.cpp; convert it first");
    }
  }
  if (bytes.empty()) throw ModelFormatError(path + ": is empty, expected GGUF or rwkv.cpp");
  throw ModelFormatError(path + ": begins with " + quoted(text(bytes, 0, 4)) +
                         ", expected \"GGUF\" or \"fmgg\" (rwkv.cpp)");
}

void read_container(std::span<const std::uint8_t> bytes, ModelFile& file) {
  file.file_bytes = bytes.size();
  for (const Container& container : kContainers) {
    if (text(bytes, 0, container.magic.size()) == container.magic) {
      return container.read(bytes, file);
    }
  }
  refuse(file.path, bytes);
}

/// A stored tensor must lie inside its file, a made one in none.
void check_place(const ModelFile& model, const TensorInfo& tensor) {
  if (tensor.make) return;
  if (tensor.file >= model.files.size()) {
    throw std::out_of_range(model.path + ": tensor " + tensor.name + " lies in file " +
                            std::to_string(tensor.file) + " of " +
                            std::to_string(model.files.size()));
  }
  const std::uint64_t size = model.files[tensor.file]->size();
  if (tensor.offset <= size && tensor.n_bytes <= size - tensor.offset) return;
  throw ModelFormatError(model.files[tensor.file]->path() + ": tensor " + tensor.name + " takes " +
                         std::to_string(tensor.n_bytes) + " bytes at " +
                         std::to_string(tensor.offset) + ", the file has " + std::to_string(size));
}

}  // namespace

std::size_t TensorInfo::n_elements() const noexcept {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

std::shared_ptr<const ModelFile> ModelFile::open(const std::string& path) {
  auto model = std::make_shared<ModelFile>();
  model->path = path;
  model->files.push_back(std::make_shared<const MappedFile>(path));
  read_container(model->files[0]->map(), *model);
  return model;
}

std::shared_ptr<const ModelFile> ModelFile::parse(const std::string& path,
                                                  std::span<const std::uint8_t> bytes) {
  auto model = std::make_shared<ModelFile>();
  model->path = path;
  read_container(bytes, *model);
  return model;
}

std::shared_ptr<const ModelFile> ModelFile::from_tensors(
    const std::string& path, const std::string& container,
    std::vector<std::shared_ptr<const MappedFile>> files, std::vector<TensorInfo> tensors,
    double layer_norm_eps) {
  auto model = std::make_shared<ModelFile>();
  model->path = path;
  model->container = container;
  model->layer_norm_eps = layer_norm_eps;
  model->files = std::move(files);
  for (const auto& file : model->files) model->file_bytes += file->size();
  for (const TensorInfo& tensor : tensors) check_place(*model, tensor);
  add_in_checkpoint_form(*model, std::move(tensors));
  return model;
}

const TensorInfo* ModelFile::find(const std::string& name) const noexcept {
  const auto found = index_.find(name);
  return found != index_.end() ? &tensors[found->second] : nullptr;
}

void ModelFile::add(TensorInfo tensor) {
  if (const TensorInfo* first = find(tensor.name)) {
    throw ModelFormatError(path + ": has tensor " + tensor.name + " twice, as " + first->file_name +
                           " and as " + tensor.file_name);
  }
  index_.emplace(tensor.name, tensors.size());
  tensors.push_back(std::move(tensor));
}

void ModelFile::read(const TensorInfo& tensor, std::uint64_t begin, std::size_t n,
                     void* out) const {
  const MappedFile& file = file_of(tensor);
  if (begin > tensor.n_bytes || n > tensor.n_bytes - begin) {
    throw std::out_of_range(path + ": tensor " + tensor.name + " has " +
                            std::to_string(tensor.n_bytes) + " bytes, asked for " +
                            std::to_string(n) + " from " + std::to_string(begin));
  }
  file.read(tensor.offset + begin, n, out);
}

const MappedFile& ModelFile::file_of(const TensorInfo& tensor) const {
  if (tensor.make) throw Error(path + ": tensor " + tensor.name + " is made, no file holds it");
  if (files.empty()) throw Error(path + ": was parsed from memory and has no file to read");
  return *files[tensor.file];
}

const std::uint8_t* ModelFile::mapped(const TensorInfo& tensor) const {
  return file_of(tensor).map().data() + tensor.offset;
}

void ModelFile::check_size() const {
  for (const auto& file : files) file->check_size();
}

}  // namespace rwkvcpp
