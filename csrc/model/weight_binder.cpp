#include "model/weight_binder.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "model/spelling.h"

namespace rwkvcpp {
namespace {

using Shape = std::vector<std::size_t>;

std::string label(const ModelFile& file, const std::string& name) {
  return file.path + ": tensor " + name;
}

[[noreturn]] void throw_shape(const ModelFile& file, const TensorInfo& tensor,
                              const std::string& expected) {
  std::string message =
      label(file, tensor.name) + " is " + shape_text(tensor.shape) + ", expected " + expected;
  if (tensor.file_name != tensor.name) message += " (in the file: " + tensor.file_name + ")";
  throw ModelFormatError(message);
}

void check_shape(const ModelFile& file, const TensorInfo& tensor, const Shape& expected) {
  if (tensor.shape != expected) throw_shape(file, tensor, shape_text(expected));
}

/// Rows are read one by one, so each must hold whole blocks.
void check_blocks(const ModelFile& file, const TensorInfo& tensor, const Format& format) {
  if (tensor.shape.back() % format.block_inputs == 0) return;
  throw ModelFormatError(label(file, tensor.name) + " has rows of " +
                         std::to_string(tensor.shape.back()) + ", expected a multiple of " +
                         std::to_string(format.block_inputs) + ", the block of " +
                         std::string(format.name));
}

/// bf16, to nearest even, and 0 below 2^-14, where f16 runs out of digits: files of
/// the same weights in F32, F16 or BF16 agree.
std::uint16_t rounded_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto rounded = static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
  constexpr std::uint16_t kSmallestNormalF16 = 0x3880;  // 2^-14
  return (rounded & 0x7FFF) < kSmallestNormalF16 ? std::uint16_t{0} : rounded;
}

std::string rounded_bytes(const float* values, std::size_t n) {
  std::string bytes;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint16_t rounded = rounded_bf16(values[i]);
    bytes.push_back(static_cast<char>(rounded & 0xFF));
    bytes.push_back(static_cast<char>(rounded >> 8));
  }
  return bytes;
}

std::uint64_t total_bytes(const ModelFile& file) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : file.tensors) sum += tensor.n_bytes;
  return sum;
}

}  // namespace

WeightType BoundWeights::main_type() const noexcept {
  const auto most = std::ranges::max_element(layer_weights);
  return static_cast<WeightType>(most - layer_weights.begin());
}

WeightBinder::WeightBinder(const ModelFile& file, Ops& ops, bool mapped, const TypeMap& types,
                           Progress progress)
    : file_(file),
      ops_(ops),
      mapped_(mapped),
      types_(types),
      progress_(std::move(progress)),
      bytes_total_(total_bytes(file)) {}

const TensorInfo& WeightBinder::find(const std::string& name) const {
  const TensorInfo* tensor = file_.find(name);
  if (tensor == nullptr) throw ModelFormatError(label(file_, name) + " is missing");
  return *tensor;
}

std::size_t WeightBinder::n_out(const std::string& name) const {
  const TensorInfo& tensor = find(name);
  if (tensor.shape.size() != 2) throw_shape(file_, tensor, "two dimensions");
  return tensor.shape[0];
}

void WeightBinder::sample(const TensorInfo& tensor, const WeightRows& rows) {
  bound_.samples[tensor.name] = std::string(format(tensor.type).name) + " as " +
                                std::string(rows.format().name) + " " + shape_text(tensor.shape) +
                                " " + rows.sample();
}

void WeightBinder::count(const TensorInfo& tensor) {
  consumed_.insert(tensor.name);
  bytes_done_ += tensor.n_bytes;
  if (progress_) progress_(bytes_done_, bytes_total_);
}

// Matrices.

const TensorInfo& WeightBinder::take_matrix(const std::string& name, std::size_t n_out,
                                            std::size_t n_in) {
  const TensorInfo& tensor = find(name);
  check_shape(file_, tensor, {n_out, n_in});
  check_blocks(file_, tensor, format(tensor.type));
  return tensor;
}

WeightRows WeightBinder::rows_of(const TensorInfo& tensor) const {
  const auto type = types_.find(tensor.name);
  if (type == types_.end()) return {file_, tensor, nullptr, mapped_};
  const Format& wanted = format(type->second);
  check_blocks(file_, tensor, wanted);
  return {file_, tensor, &wanted, mapped_};
}

Matrix WeightBinder::upload(const TensorInfo& tensor, const WeightRows& rows, std::size_t first_row,
                            std::size_t n_out, bool zeros_expected) {
  const auto read = [&rows, first_row](std::size_t row, std::size_t n_rows, void* out) {
    rows.read(first_row + row, n_rows, out);
  };
  const std::uint8_t* in_place = rows.in_place();
  if (in_place != nullptr) in_place += first_row * rows.row_bytes();
  Matrix matrix =
      ops_.upload({&rows.format(), n_out, rows.n_inputs(), read, in_place, zeros_expected});

  sample(tensor, rows);
  if (matrix.tiles) bound_.packed_bytes += matrix.tiles->size();
  bound_.bytes_per_token += matrix.bytes();
  // Matrices stacked in one tensor read the same inputs: the first one's count for all.
  if (first_row > 0) matrix.moments = nullptr;
  if (matrix.moments) bound_.inputs.push_back({tensor.name, matrix.moments});
  if (tensor.name.starts_with("blocks.")) {
    bound_.layer_weights[static_cast<std::size_t>(rows.format().type)] += n_out * matrix.n_in;
  }
  return matrix;
}

Matrix WeightBinder::matrix(const std::string& name, std::size_t n_out, std::size_t n_in) {
  const TensorInfo& tensor = take_matrix(name, n_out, n_in);
  Matrix matrix = upload(tensor, rows_of(tensor), 0, n_out);
  count(tensor);
  return matrix;
}

Matrix WeightBinder::behind_relu(const std::string& name, std::size_t n_out, std::size_t n_in) {
  const TensorInfo& tensor = take_matrix(name, n_out, n_in);
  Matrix matrix = upload(tensor, rows_of(tensor), 0, n_out, /*zeros_expected=*/true);
  count(tensor);
  if (matrix.activity) {
    bound_.activity.push_back({matrix.activity, matrix.layout, matrix.skippable_bytes()});
  }
  return matrix;
}

LowRank WeightBinder::low_rank(const std::string& first, const std::string& second,
                               std::size_t n_out, std::size_t n_in) {
  const std::size_t rank = this->n_out(first);
  return {matrix(first, rank, n_in), matrix(second, n_out, rank)};
}

WeightRows WeightBinder::table(const std::string& name, std::size_t n_rows, std::size_t n_cols) {
  const TensorInfo& tensor = take_matrix(name, n_rows, n_cols);
  const WeightRows rows = rows_of(tensor);
  sample(tensor, rows);
  count(tensor);
  return rows;
}

// Vectors.

AlignedBuffer WeightBinder::read_vector(const TensorInfo& tensor) {
  const std::size_t n = tensor.n_elements();
  AlignedBuffer values(round_up(n * sizeof(float), kAlignment));
  const WeightRows rows = rows_of(tensor);
  rows.dequantize(0, n / tensor.shape.back(), values.as<float>());
  sample(tensor, rows);
  return values;
}

const float* WeightBinder::keep(AlignedBuffer values) {
  return bound_.vectors.emplace_back(std::move(values)).as<float>();
}

const float* WeightBinder::vector(const std::string& name, std::size_t n, Transform transform) {
  const TensorInfo& tensor = find(name);
  if (tensor.shape.size() > 2 || tensor.n_elements() != n) {
    throw_shape(file_, tensor, shape_text(Shape{n}));
  }
  check_blocks(file_, tensor, format(tensor.type));
  AlignedBuffer values = read_vector(tensor);
  if (transform != nullptr) {
    std::transform(values.as<float>(), values.as<float>() + n, values.as<float>(), transform);
  }
  count(tensor);
  return keep(std::move(values));
}

const float* WeightBinder::per_head(const std::string& name, std::size_t n_head, std::size_t n,
                                    Transform transform) {
  if (find(name).n_elements() != n_head) return vector(name, n_head * n, transform);
  const float* heads = vector(name, n_head, transform);
  AlignedBuffer channels(round_up(n_head * n * sizeof(float), kAlignment));
  for (std::size_t h = 0; h < n_head; ++h) std::fill_n(channels.as<float>() + h * n, n, heads[h]);
  return keep(std::move(channels));
}

const float* WeightBinder::token_shift(const std::string& name, std::size_t n, Lerp lerp) {
  const float* mu = vector(name, n);
  bound_.shifts[name] = rounded_bytes(mu, n);
  if (lerp == Lerp::kWeighsPrevious) return mu;
  float* values = bound_.vectors.back().as<float>();
  std::transform(values, values + n, values, [](float current) { return 1.0F - current; });
  return values;
}

Norm WeightBinder::norm(const std::string& name, std::size_t n, float eps) {
  const float* weight = vector(name + ".weight", n);
  return {weight, vector(name + ".bias", n), eps};
}

BoundWeights WeightBinder::finish() {
  std::vector<std::string> unexpected;
  for (const TensorInfo& tensor : file_.tensors) {
    if (!consumed_.contains(tensor.name)) unexpected.push_back(tensor.file_name);
  }
  if (!unexpected.empty()) {
    throw UnsupportedError(file_.path + ": unexpected tensors: " + list_text(unexpected));
  }
  if (progress_) progress_(bytes_total_, bytes_total_);  // the ignored ones counted too
  return std::move(bound_);
}

}  // namespace rwkvcpp
