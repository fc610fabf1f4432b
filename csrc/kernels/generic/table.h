// Every kernel of one instruction set, from its Simd type.
#pragma once

#include "kernels/generic/column_product.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/norm.h"
#include "kernels/generic/peak.h"
#include "kernels/generic/quantize.h"
#include "kernels/generic/vocabulary.h"
#include "kernels/generic/wkv4.h"
#include "kernels/generic/wkv6.h"
#include "kernels/generic/wkv7.h"
#include "quant/bf16.h"
#include "quant/f16.h"
#include "quant/f32.h"
#include "quant/iq3_s.h"
#include "quant/iq3_xxs.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace rwkvcpp::kernels {
namespace {

template <class S, class... Formats>
void fill_formats(KernelTable& table) noexcept {
  (fill_matmul<S, Formats>(table), ...);
  (fill_columns<S, Formats>(table), ...);
}

template <class S>
void fill_products(KernelTable& table) noexcept {
  fill_peak<S>(table);
  table.max_rows = S::kMaxRows;
  table.find_active = find_active<S>;
  table.find_active_floats = find_active_floats;
  fill_formats<S, F32, F16, BF16>(table);
  fill_formats<S, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL>(table);
  fill_formats<S, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS, IQ3_XXS, IQ3_S>(table);
}

template <class S>
void fill_rows(KernelTable& table) noexcept {
  fill_elementwise<S>(table);
  table.quantize = quantize<S>;
  table.interleave = interleave<S>;
  table.layer_norm = layer_norm<S>;
  table.wkv4 = wkv4<S>;
  table.wkv6 = wkv6<S>;
  table.wkv7 = wkv7<S>;
  fill_vocabulary<S>(table);
}

}  // namespace
}  // namespace rwkvcpp::kernels
