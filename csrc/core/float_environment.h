// Rounding and subnormals as the C++ abstract machine has them, whatever the
// calling program set: results must not depend on the caller's MXCSR or FPCR.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rwkvcpp {

class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept : saved_(get()) { set(kDefault); }
  ~DefaultFloatEnvironment() { set(saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
#if defined(__x86_64__)
  using Register = unsigned;
  static constexpr Register kDefault = 0x1F80;  // nearest even, no flushing, no traps
  static Register get() noexcept { return _mm_getcsr(); }
  static void set(Register value) noexcept { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = std::uint64_t;
  static constexpr Register kDefault = 0;
  static Register get() noexcept {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(Register value) noexcept { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
  using Register = int;
  static constexpr Register kDefault = 0;
  static Register get() noexcept { return 0; }
  static void set(Register) noexcept {}
#endif
  Register saved_;
};

}  // namespace rwkvcpp
