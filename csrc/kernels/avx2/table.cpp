#include "kernels/generic/table.h"
#include "kernels/avx2/simd.h"

namespace rwkvcpp::kernels {

KernelTable avx2_table(const KernelTable& parent) noexcept {
  KernelTable table = parent;
  table.isa = "avx2";
  fill_products<Avx2>(table);
  fill_rows<Avx2>(table);
  return table;
}

}  // namespace rwkvcpp::kernels
