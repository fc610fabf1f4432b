// What this processor and its operating system offer.
#pragma once

#include <string>
#include <vector>

namespace rwkvcpp::kernels {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C
  bool avx_vnni = false;     // VNNI at 256 bits without AVX-512
  bool avx512_vnni = false;  // with F, BW, DQ, VL
  bool neon = false;
  bool neon_dotprod = false;
};

/// Read once.
const CpuFeatures& cpu_features();

/// The names of all features that kernels could use, for people.
std::vector<std::string> cpu_feature_names();

}  // namespace rwkvcpp::kernels
