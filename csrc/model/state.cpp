#include "model/state.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
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

/// FNV-1a by words; its upper half, which takes in every bit, goes into the lower one each time.
std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) noexcept {
  hash = (hash ^ word) * 0x100000001B3;
  return hash ^ (hash >> 32);
}

bool all_finite(const float* values, std::size_t n) noexcept {
  constexpr std::uint32_t kExponent = 0x7F800000;
  std::uint32_t any = 0;
  for (std::size_t i = 0; i < n; ++i) {
    any |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(values[i]) & kExponent) ==
                                      kExponent);
  }
  return any == 0;
}

void check_finite(const StateArray& array, const float* values) {
  if (all_finite(values, array.size())) return;
  const auto is_finite = [](float value) { return std::isfinite(value); };
  const float* found = std::find_if_not(values, values + array.size(), is_finite);
  throw StateError("state array " + array.name + " holds " + std::to_string(*found) +
                   " at position " + std::to_string(found - values) + ", expected finite numbers");
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

std::size_t StateLayout::n_values() const noexcept {
  const auto add = [](std::size_t sum, const StateArray& array) { return sum + array.size(); };
  return std::accumulate(arrays.begin(), arrays.end(), std::size_t{0}, add);
}

void History::add(std::span<const TokenId> tokens) noexcept {
  n_tokens += tokens.size();
  for (const TokenId token : tokens) hash = mixed(hash, static_cast<std::uint64_t>(token));
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
  copy->set_history(history());
  return copy;
}

void State::set_history(const History& history) noexcept {
  n_tokens_.store(history.n_tokens, std::memory_order_relaxed);
  hash_ = history.hash;
}

void State::consumed(std::span<const TokenId> tokens) noexcept {
  History moved = history();
  moved.add(tokens);
  set_history(moved);
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
  std::uint64_t hash = History{}.hash;
  for (const StateArray& wanted : layout_->arrays) {
    const float* values = find(arrays, wanted).values;
    write(wanted, values);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      hash = mixed(hash, std::bit_cast<std::uint32_t>(values[i]));
    }
  }
  hash_ = hash;
}

void State::read_all(float* out) const {
  for (const StateArray& array : layout_->arrays) {
    read(array, out);
    check_finite(array, out);
    out += array.size();
  }
}

void State::restore(std::span<const float> values, const History& history) {
  if (values.size() != layout_->n_values()) {
    throw StateError("a state of " + layout_->description + " has " +
                     std::to_string(layout_->n_values()) + " values, " +
                     std::to_string(values.size()) + " were given");
  }
  const float* next = values.data();
  for (const StateArray& array : layout_->arrays) {
    check_finite(array, next);
    next += array.size();
  }
  next = values.data();
  for (const StateArray& array : layout_->arrays) {
    write(array, next);
    next += array.size();
  }
  set_history(history);
}

std::unique_lock<State> claim(State& state) {
  std::unique_lock lock(state, std::try_to_lock);
  if (!lock) throw StateError("the state is in use by another thread");
  return lock;
}

}  // namespace rwkvcpp
