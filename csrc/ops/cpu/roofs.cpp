#include "ops/cpu/roofs.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/aligned_buffer.h"
#include "core/stopwatch.h"

namespace rwkvcpp {

double read_roof(ThreadPool& pool, const kernels::KernelTable& table, std::size_t n_bytes) {
  constexpr std::size_t kPiece = 128 << 10;
  AlignedBuffer buffer(round_up(n_bytes, kPiece));
  std::memset(buffer.data(), 1, buffer.size());  // untouched pages would all be one page of zeros
  const double time = median_seconds(9, [&] {
    pool.run(buffer.size() / kPiece,
             [&](std::size_t piece, int) { table.read(buffer.data() + piece * kPiece, kPiece); });
  });
  return static_cast<double>(buffer.size()) / time / 1e9;
}

double int8_roof(ThreadPool& pool, const kernels::KernelTable& table) {
  constexpr std::size_t kRounds = 100'000;
  const auto n_pieces = static_cast<std::size_t>(pool.n_threads()) * 16;
  std::atomic<std::size_t> products{0};  // in a round
  const double time = median_seconds(9, [&] {
    pool.run(n_pieces, [&](std::size_t, int) {
      products.store(table.dot_rounds(kRounds), std::memory_order_relaxed);
    });
  });
  return 2.0 * static_cast<double>(products.load() * kRounds * n_pieces) / time / 1e9;
}

}  // namespace rwkvcpp
