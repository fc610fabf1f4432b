// What this machine can do at most, measured: bytes read and int8 operations per
// second, all threads together.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rwkvcpp::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The median time of `repeats` calls, after one that warms up.
template <class Call>
double median_seconds(int repeats, Call call) {
  call();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds();
    call();
    times.push_back(seconds() - start);
  }
  std::ranges::nth_element(times, times.begin() + repeats / 2);
  return times[static_cast<std::size_t>(repeats / 2)];
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) inline std::uint64_t read_bytes(const std::byte* p, std::size_t n) {
  __m256i sums[4] = {};
  for (std::size_t i = 0; i < n; i += 128) {
    for (int j = 0; j < 4; ++j) {
      const auto* at = reinterpret_cast<const __m256i*>(p + i + 32 * static_cast<std::size_t>(j));
      sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256(at));
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0));
}

/// Multiply-adds of bytes that one thread's registers do in n rounds of 12.
__attribute__((target("avx512f,avx512vnni"))) inline int dot_rounds_512(std::size_t n) {
  __m512i sums[12] = {};
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (std::size_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      sums[j] = _mm512_dpbusd_epi32(sums[j], a, b);
      asm volatile("" : "+v"(sums[j]));
    }
  }
  for (int j = 1; j < 12; ++j) sums[0] = _mm512_add_epi32(sums[0], sums[j]);
  return _mm512_reduce_add_epi32(sums[0]);
}

__attribute__((target("avx2"))) inline int dot_rounds_256(std::size_t n) {
  __m256i sums[12] = {};
  const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  for (std::size_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) {
      const __m256i pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones);
      sums[j] = _mm256_add_epi32(sums[j], pairs);
      asm volatile("" : "+x"(sums[j]));
    }
  }
  for (int j = 1; j < 12; ++j) sums[0] = _mm256_add_epi32(sums[0], sums[j]);
  return _mm256_extract_epi32(sums[0], 0);
}

#endif

/// GB/s of reading a buffer of `n_bytes` (in 2 MB pages where granted).
inline double read_roof(ThreadPool& pool, std::size_t n_bytes) {
#if defined(__x86_64__)
  constexpr std::size_t kPiece = 128 << 10;
  AlignedBuffer buffer(round_up(n_bytes, kPiece));
  std::vector<std::uint64_t> sink(static_cast<std::size_t>(pool.n_threads()) * 8);
  const double time = median_seconds(7, [&] {
    pool.run(buffer.size() / kPiece, [&](std::size_t piece, int worker) {
      sink[static_cast<std::size_t>(worker) * 8] += read_bytes(buffer.data() + piece * kPiece, kPiece);
    });
  });
  return static_cast<double>(buffer.size()) / time / 1e9;
#else
  static_cast<void>(pool);
  static_cast<void>(n_bytes);
  return 0;
#endif
}

/// Gop/s of int8 multiply-adds (two operations each), all threads.
inline double int8_roof(ThreadPool& pool) {
#if defined(__x86_64__)
  constexpr std::size_t kRounds = 4'000'000;
  const bool wide = __builtin_cpu_supports("avx512vnni");
  std::vector<int> sink(static_cast<std::size_t>(pool.n_threads()) * 16);
  const auto n_threads = static_cast<std::size_t>(pool.n_threads());
  const double time = median_seconds(5, [&] {
    pool.run(n_threads * 8, [&](std::size_t, int worker) {
      sink[static_cast<std::size_t>(worker) * 16] +=
          wide ? dot_rounds_512(kRounds / 8) : dot_rounds_256(kRounds / 8);
    });
  });
  const double ops = static_cast<double>(kRounds * n_threads) * 12 * (wide ? 64 : 32) * 2;
  return ops / time / 1e9;
#else
  static_cast<void>(pool);
  return 0;
#endif
}

}  // namespace rwkvcpp::bench
