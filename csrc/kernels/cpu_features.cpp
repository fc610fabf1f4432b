#include "kernels/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace rwkvcpp::kernels {
namespace {

struct Named {
  const char* name;
  bool present;
};

#if defined(__x86_64__)

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(unsigned leaf, unsigned sub = 0) {
  Leaf r;
  __get_cpuid_count(leaf, sub, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(unsigned word, int n) { return (word >> n) & 1u; }

/// Which register states the operating system saves.
std::uint64_t saved_states() {
  if (!bit(cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  std::uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

std::vector<Named> detect() {
  const Leaf one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
  const std::uint64_t states = saved_states();
  const bool ymm = (states & 0x06) == 0x06;
  const bool zmm = (states & 0xE6) == 0xE6;
  return {
      {"avx2", ymm && bit(seven.ebx, 5)},         {"fma", ymm && bit(one.ecx, 12)},
      {"f16c", ymm && bit(one.ecx, 29)},          {"avx_vnni", ymm && bit(seven_one.eax, 4)},
      {"avx512f", zmm && bit(seven.ebx, 16)},     {"avx512dq", zmm && bit(seven.ebx, 17)},
      {"avx512bw", zmm && bit(seven.ebx, 30)},    {"avx512vl", zmm && bit(seven.ebx, 31)},
      {"avx512_vnni", zmm && bit(seven.ecx, 11)}, {"avx512_bf16", zmm && bit(seven_one.eax, 5)},
  };
}

#elif defined(__aarch64__)

std::vector<Named> detect() {
  const unsigned long words = getauxval(AT_HWCAP);
  return {{"neon", (words & HWCAP_ASIMD) != 0}, {"dotprod", (words & HWCAP_ASIMDDP) != 0}};
}

#else

std::vector<Named> detect() { return {}; }

#endif

bool has_all(const std::vector<Named>& features, std::initializer_list<const char*> names) {
  for (const std::string name : names) {
    bool found = false;
    for (const Named& f : features) found = found || (f.present && name == f.name);
    if (!found) return false;
  }
  return true;
}

CpuFeatures summarize(const std::vector<Named>& f) {
  CpuFeatures c;
  c.avx2 = has_all(f, {"avx2", "fma", "f16c"});
  c.avx512_vnni =
      c.avx2 && has_all(f, {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"});
  c.avx_vnni = c.avx2 && has_all(f, {"avx_vnni"});
  c.neon = has_all(f, {"neon"});
  c.neon_dotprod = has_all(f, {"neon", "dotprod"});
  return c;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = summarize(detect());
  return features;
}

std::vector<std::string> cpu_feature_names() {
  std::vector<std::string> names;
  for (const Named& feature : detect()) {
    if (feature.present) names.emplace_back(feature.name);
  }
  return names;
}

}  // namespace rwkvcpp::kernels
