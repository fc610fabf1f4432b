// The recurrences: one piece for some heads of one sequence, all its tokens.
#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/scratch.h"

namespace rwkvcpp {
namespace {

constexpr std::size_t kChannels4 = 64;  // of RWKV-4, in one piece: a few cache lines of each array

}  // namespace

template <class Body>
void CpuOps::for_heads(Segments segments, std::size_t n_heads, Body body) {
  pool_.run(segments.size() * n_heads,
            [&](std::size_t piece, int) { body(segments[piece / n_heads], piece % n_heads); });
}

void CpuOps::wkv4(const Wkv4& op, Segments segments) {
  const std::size_t n = op.r.n_cols;
  for_heads(segments, (n + kChannels4 - 1) / kChannels4, [&](const Segment& s, std::size_t strip) {
    const std::size_t c = strip * kChannels4;
    float* state = s.state + op.offset + c;
    table_.wkv4({op.r.row(s.begin) + c, op.k.row(s.begin) + c, op.v.row(s.begin) + c, op.decay + c,
                 op.bonus + c, state, state + n, state + 2 * n, op.out.row(s.begin) + c,
                 std::min(kChannels4, n - c), s.n_rows, op.r.stride});
  });
}

void CpuOps::wkv6(const Wkv6& op, Segments segments) {
  const std::size_t size = op.head_size;
  for_heads(segments, op.r.n_cols / size, [&](const Segment& s, std::size_t head) {
    const std::size_t c = head * size;
    table_.wkv6({op.r.row(s.begin) + c, op.k.row(s.begin) + c, op.v.row(s.begin) + c,
                 op.decay ? op.decay.row(s.begin) + c : op.decay_constant + c,
                 op.decay ? op.decay.stride : 0, op.bonus + c,
                 op.gate ? op.gate.row(s.begin) + c : nullptr, op.group_norm.weight + c,
                 op.group_norm.bias + c, op.group_norm.eps, s.state + op.offset + c * size,
                 op.out.row(s.begin) + c, size, s.n_rows, op.r.stride});
  });
}

void CpuOps::wkv7(const Wkv7& op, Segments segments) {
  const std::size_t size = op.head_size;
  for_heads(segments, op.r.n_cols / size, [&](const Segment& s, std::size_t head) {
    const std::size_t c = head * size;
    const auto at = [&](const Rows& rows) { return rows.row(s.begin) + c; };
    table_.wkv7({at(op.r), at(op.decay), at(op.k), at(op.v), at(op.a), at(op.gate), op.k_k + c,
                 op.k_a + c, op.r_k + c, op.group_norm.weight + c, op.group_norm.bias + c,
                 op.group_norm.eps, s.state + op.offset + c * size, at(op.out), size, s.n_rows,
                 op.r.stride});
  });
}

}  // namespace rwkvcpp
