// The AVX-VNNI kernels in the encoding of AVX-512VL (EVEX), so that they can be tested on
// processors that have AVX-512 VNNI and not AVX-VNNI: Ice Lake, Zen 4. Those run avx512vnni.
#include "kernels/generic/table.h"
#include "kernels/avxvnni/simd.h"

namespace rwkvcpp::kernels {

KernelTable avxvnni_evex_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "avxvnni_evex";
  fill_products<AvxVnni>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
