#include "kernels/generic/table.h"
#include "kernels/avx512vnni/simd.h"

namespace rwkvcpp::kernels {

KernelTable avx512vnni_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "avx512vnni";
  fill_products<Avx512Vnni>(table);
  fill_rows<Avx512Vnni>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
