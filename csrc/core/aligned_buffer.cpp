#include "core/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace rwkvcpp {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t n_bytes) : n_bytes_(round_up(n_bytes, kAlignment)) {
  if (n_bytes_ == 0) return;
  const bool large = n_bytes_ >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kAlignment;
  if (n_bytes_ < n_bytes) throw std::bad_alloc();
  void* memory = std::aligned_alloc(alignment, round_up(n_bytes_, alignment));
  if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // Advice: where the system refuses, small pages serve.
  if (large) static_cast<void>(madvise(memory, round_up(n_bytes_, alignment), MADV_HUGEPAGE));
#endif
  std::memset(memory, 0, n_bytes_);
  data_ = static_cast<std::byte*>(memory);
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

}  // namespace rwkvcpp
