#include "core/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace rwkvcpp {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

bool is_mapped(std::size_t n_bytes) { return n_bytes >= kHugePage; }

/// Fresh pages, zero until they are touched, from the start of a huge page on.
std::byte* map_pages(std::size_t n_bytes) {
  n_bytes = round_up(n_bytes, kPage);
  const std::size_t mapped = n_bytes + kHugePage;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(memory);
  const std::size_t skipped = round_up(reinterpret_cast<std::uintptr_t>(begin), kHugePage) -
                              reinterpret_cast<std::uintptr_t>(begin);
  if (skipped > 0) munmap(begin, skipped);
  if (skipped < kHugePage) munmap(begin + skipped + n_bytes, kHugePage - skipped);
#ifdef MADV_HUGEPAGE
  // Advice: where the system refuses, small pages serve.
  static_cast<void>(madvise(begin + skipped, n_bytes, MADV_HUGEPAGE));
#endif
  return begin + skipped;
}

std::byte* allocate(std::size_t n_bytes) {
  void* memory = std::aligned_alloc(kAlignment, n_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, n_bytes);
  return static_cast<std::byte*>(memory);
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t n_bytes) {
  if (n_bytes == 0) return;
  if (n_bytes > SIZE_MAX / 2) throw std::bad_alloc();
  n_bytes_ = round_up(n_bytes, kAlignment);
  data_ = is_mapped(n_bytes_) ? map_pages(n_bytes_) : allocate(n_bytes_);
}

AlignedBuffer::~AlignedBuffer() {
  if (is_mapped(n_bytes_)) {
    munmap(data_, round_up(n_bytes_, kPage));
  } else {
    std::free(data_);
  }
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

}  // namespace rwkvcpp
