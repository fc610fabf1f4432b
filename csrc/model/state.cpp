#include "model/state.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "model/spelling.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kLineFloats = kAlignment / sizeof(float);

/// Copies matrices [n_matrices][n][n], each turned over.
void transpose(const float* in, std::size_t n_matrices, std::size_t n, float* out) noexcept {
  for (std::size_t m = 0; m < n_matrices; ++m, in += n * n, out += n * n) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) out[j * n + i] = in[i * n + j];
    }
  }
}

/// Transposing twice gives the same again, so one function serves both ways.
void copy_array(const StateArray& array, const float* in, float* out) noexcept {
  if (array.transposed) {
    transpose(in, array.shape[0], array.shape[1], out);
  } else {
    std::memcpy(out, in, array.size() * sizeof(float));
  }
}

const NamedArray& find(std::span<const NamedArray> arrays, const StateArray& wanted) {
  const auto found = std::ranges::find(arrays, wanted.name, &NamedArray::name);
  if (found == arrays.end()) throw StateError("state array " + wanted.name + " is missing");
  if (found->shape != wanted.shape) {
    throw StateError("state array " + wanted.name + " is " + shape_text(found->shape) +
                     ", expected " + shape_text(wanted.shape));
  }
  return *found;
}

void refuse_unknown(std::span<const NamedArray> given, const StateLayout& layout) {
  std::vector<std::string> names;
  for (const NamedArray& array : given) names.push_back(array.name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
    throw StateError("state array " + *twice + " is given twice");
  }
  std::erase_if(names, [&](const std::string& name) {
    return std::ranges::find(layout.arrays, name, &StateArray::name) != layout.arrays.end();
  });
  if (!names.empty()) {
    throw StateError("unknown state arrays: " + list_text(names) + "; this is a state of " +
                     layout.description);
  }
}

}  // namespace

std::size_t StateArray::size() const noexcept {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

void StateLayout::add(StateArray array, bool touching) {
  array.offset = touching ? n_floats : round_up(n_floats, kLineFloats);
  n_floats = array.offset + array.size();
  arrays.push_back(std::move(array));
}

std::size_t StateLayout::offset(const std::string& name) const {
  const auto found = std::ranges::find(arrays, name, &StateArray::name);
  assert(found != arrays.end());
  return found->offset;
}

StateLayout matrix_state_layout(const Config& config, bool transposed) {
  const std::size_t n = config.head_size;
  StateLayout layout;
  for (std::size_t i = 0; i < config.n_layer; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    layout.add({.name = block + ".att.x", .shape = {config.n_embd}});
    layout.add(
        {.name = block + ".att.wkv", .shape = {config.n_head(), n, n}, .transposed = transposed});
    layout.add({.name = block + ".ffn.x", .shape = {config.n_embd}});
  }
  return layout;
}

State::State(std::shared_ptr<const StateLayout> layout)
    : layout_(std::move(layout)), buffer_(layout_->n_floats * sizeof(float)) {
  for (const StateArray& array : layout_->arrays) {
    if (array.initial != 0) std::fill_n(data() + array.offset, array.size(), array.initial);
  }
}

bool State::matches(const StateLayout& other) const noexcept {
  return layout_.get() == &other || layout_->identity == other.identity;
}

std::shared_ptr<State> State::clone() const {
  auto copy = std::make_shared<State>(layout_);
  std::memcpy(copy->data(), buffer_.data(), n_bytes());
  copy->n_tokens_ = n_tokens();
  return copy;
}

void State::read(const StateArray& array, float* out) const noexcept {
  copy_array(array, buffer_.as<float>() + array.offset, out);
}

void State::write(const StateArray& array, const float* values) noexcept {
  copy_array(array, values, data() + array.offset);
}

void State::assign(std::span<const NamedArray> arrays) {
  refuse_unknown(arrays, *layout_);
  for (const StateArray& wanted : layout_->arrays) find(arrays, wanted);  // all, before a change
  for (const StateArray& wanted : layout_->arrays) write(wanted, find(arrays, wanted).values);
}

std::unique_lock<State> claim(State& state) {
  std::unique_lock lock(state, std::try_to_lock);
  if (!lock) throw StateError("the state is in use by another thread");
  return lock;
}

}  // namespace rwkvcpp
