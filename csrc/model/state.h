// The recurrent state of one sequence: floats, where each named array lies in
// them, and the weights that they belong to.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/types.h"
#include "model/config.h"

namespace rwkvcpp {

/// One array of a state, as it is named and shaped outside. Inside, matrices are
/// [head][key][value] whatever the version; `transposed` says that the outside
/// has [head][value][key].
struct StateArray {
  std::string name;                // "blocks.0.att.wkv"
  std::vector<std::size_t> shape;  // [C] or [H, N, N]
  std::size_t offset = 0;          // in floats
  float initial = 0;
  bool transposed = false;

  std::size_t size() const noexcept;
};

struct StateLayout {
  std::vector<StateArray> arrays;
  std::size_t n_floats = 0;
  std::string description;  // "RWKV 7, 12 layers of 768", for messages
  /// The architecture, the sizes and the token-shift vectors as bytes: what files
  /// of the same weights have in common, quantized or not. Its SHA-256 is the
  /// fingerprint in state files.
  std::string identity;

  /// Appends an array, on a cache line of its own or touching the one before.
  void add(StateArray array, bool touching = false);
  std::size_t offset(const std::string& name) const;  // `name` is one of arrays
  std::size_t n_values() const noexcept;              // of all arrays, one behind the other
};

/// Versions 5 to 7: per layer att.x [C], att.wkv [H, N, N], ffn.x [C].
StateLayout matrix_state_layout(const Config& config, bool transposed);

/// A named array on its way into a state.
struct NamedArray {
  std::string name;
  std::vector<std::size_t> shape;
  const float* values;
};

/// Where a state comes from: how many tokens it consumed, and a hash of them.
struct History {
  std::uint64_t n_tokens = 0;
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV's; another for a state that began with values

  /// Cut up in any way, the same tokens give the same hash.
  void add(std::span<const TokenId> tokens) noexcept;
};

/// Lockable without waiting (std::unique_lock, std::try_to_lock): a state in use
/// by another thread is an error of the caller, not something to wait for.
class State {
 public:
  explicit State(std::shared_ptr<const StateLayout> layout);

  const StateLayout& layout() const noexcept { return *layout_; }
  float* data() noexcept { return buffer_.as<float>(); }
  std::size_t n_bytes() const noexcept { return layout_->n_floats * sizeof(float); }
  std::uint64_t n_tokens() const noexcept { return n_tokens_.load(std::memory_order_relaxed); }

  bool matches(const StateLayout& other) const noexcept;

  bool try_lock() noexcept { return !busy_.exchange(true, std::memory_order_acquire); }
  void unlock() noexcept { busy_.store(false, std::memory_order_release); }

  // The caller of these holds the lock.
  std::shared_ptr<State> clone() const;
  History history() const noexcept { return {n_tokens(), hash_}; }
  void consumed(std::span<const TokenId> tokens) noexcept;
  void read(const StateArray& array, float* out) const noexcept;
  /// All arrays, one behind the other, into out[layout().n_values()]. StateError
  /// when a value is not finite: nothing can follow from such a state.
  void read_all(float* out) const;
  /// Takes all arrays of the layout, in any order; StateError, and nothing
  /// changed, when one is missing, unknown, given twice or of another shape.
  /// The hash of the state's history is then that of the values.
  void assign(std::span<const NamedArray> arrays);
  /// The reverse of read_all(), with the history that belongs to it. StateError,
  /// and nothing changed, when a value is not finite or there are more or fewer.
  void restore(std::span<const float> values, const History& history);

 private:
  void write(const StateArray& array, const float* values) noexcept;
  void set_history(const History& history) noexcept;

  std::shared_ptr<const StateLayout> layout_;
  AlignedBuffer buffer_;
  std::atomic<std::uint64_t> n_tokens_ = 0;  // read without the lock
  std::uint64_t hash_ = History{}.hash;
  std::atomic<bool> busy_ = false;
};

/// Exclusive use of a state; StateError when another thread has it.
std::unique_lock<State> claim(State& state);

}  // namespace rwkvcpp
