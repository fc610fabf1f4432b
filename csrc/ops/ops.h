// The vocabulary in which models are written; a device implements it.
//
// Every op covers all rows of all segments at once: decode is one segment of one
// row. A call is a barrier: what it wrote may be read by the next. Arguments are
// checked by the model; ops do not throw after `upload`, `make_rows` and
// `reserve`, so a forward pass that has begun always ends.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "ops/tensor.h"

namespace rwkvcpp {

/// What happens to a product r = W x before it is stored in y. `bias` is a
/// vector [n_out]; a and b are rows as wide as y.
enum class Epilogue : std::uint8_t {
  kStore,          // y = r
  kSigmoid,        // y = sigmoid(r)
  kTanh,           // y = tanh(r)
  kSilu,           // y = r sigmoid(r)
  kReluSquared,    // y = max(r, 0)^2
  kAdd,            // y = y + r
  kGatedAdd,       // y = y + a r
  kShiftMix,       // y = a + b (bias + r)                       RWKV-6 data-dependent lerp
  kDecay6,         // y = exp(-exp(bias + r))                    RWKV-6 decay
  kDecay7,         // y = exp(-0.606531 sigmoid(bias + r))       RWKV-7 decay
  kSigmoidBias,    // y = sigmoid(bias + r)                      RWKV-7 in-context learning rate
  kValueResidual,  // y = y + (a - y) sigmoid(bias + r)          RWKV-7 value residual
};
inline constexpr std::size_t kEpilogues = 12;

/// What a product reads: rows as they are, or behind token shift (mu given): each row
/// x mixed with its predecessor p (Ops::token_shift), x + (p - x) mu.
struct ProductInput {
  Rows rows;
  const float* mu = nullptr;

  ProductInput(const Rows& x = {}, const float* mix = nullptr) : rows(x), mu(mix) {}
  bool operator==(const ProductInput& other) const noexcept {
    return rows.data == other.rows.data && mu == other.mu;
  }
};

struct Product {
  const Matrix* weight;
  ProductInput x;
  Rows y;
  Epilogue epilogue = Epilogue::kStore;
  const float* bias = nullptr;
  Rows a = {};
  Rows b = {};
};

struct Norm {
  const float* weight;  // [n_embd]
  const float* bias;    // [n_embd]
  float eps;
};

/// RWKV-4, per channel: state aa, bb, pp at offset, offset + C, offset + 2C.
/// out = r wkv.
struct Wkv4 {
  Rows r, k, v;        // r after its sigmoid
  const float* decay;  // [C], -exp(time_decay) < 0
  const float* bonus;  // [C], time_first
  std::size_t offset;
  Rows out;
};

/// RWKV-5 and 6, per head: state S[key][value] at offset + head N^2.
///   y = r (S + diag(u) k v),  S = diag(w) S + k v,  out = group_norm(y) gate
struct Wkv6 {
  Rows r, k, v;
  Rows decay;                   // [rows, C], or empty: decay_constant
  const float* decay_constant;  // [C], RWKV-5
  const float* bonus;           // [C]
  Rows gate;                    // optional, after its silu
  Norm group_norm;
  std::size_t head_size;
  std::size_t offset;
  Rows out;
};

/// RWKV-7, per head: state S[key][value] (the transpose of the paper's) at
/// offset + head N^2. With kappa = normalize(k k_k), k' = k (1 + (a - 1) k_a):
///   S = S diag(w) - (S kappa)(kappa a)^T + v k'^T,  y = S r,
///   out = (group_norm(y) + (r . k' r_k) v) gate
struct Wkv7 {
  Rows r, decay, k, v, a, gate;
  const float* k_k;  // [C]
  const float* k_a;  // [C]
  const float* r_k;  // [C]
  Norm group_norm;
  std::size_t head_size;
  std::size_t offset;
  Rows out;
};

/// Rows of a table that stays in its file; row(t, out) dequantizes row t.
using RowReader = std::function<void(TokenId, float* out)>;

class Ops {
 public:
  virtual ~Ops() = default;

  // Memory.
  virtual Matrix upload(const MatrixSource& source) = 0;
  virtual Rows make_rows(std::size_t n_rows, std::size_t n_cols) = 0;  // lives as long as the Ops
  /// Announces the largest call to come: rows, the widths of the distinct inputs of the
  /// widest group of products, added up, and the width of token shift.
  virtual void reserve(std::size_t max_rows, std::size_t max_group_inputs,
                       std::size_t shift_width) = 0;

  // Rows.
  virtual void layer_norm(Rows x, const Norm& norm, Rows out) = 0;
  /// Gives each row of x its predecessor: the row before it, or for a segment's first
  /// what the state has at `offset`, where the segment's last row is left. Holds until
  /// the next call; products mix as they read (ProductInput).
  virtual void token_shift(Rows x, Segments segments, std::size_t offset) = 0;
  /// out = predecessor - x, of the rows last shifted.
  virtual void to_predecessor(Rows out) = 0;
  virtual void scale(Rows x, float factor) = 0;
  virtual void gather(Rows x, std::span<const std::size_t> rows, Rows out) = 0;

  // Products: the group is one parallel region; each input row is quantized once.
  virtual void matmul(std::span<const Product> group) = 0;
  void matmul(const Product& product) { matmul(std::span(&product, 1)); }

  // Recurrences.
  virtual void wkv4(const Wkv4& op, Segments segments) = 0;
  virtual void wkv6(const Wkv6& op, Segments segments) = 0;
  virtual void wkv7(const Wkv7& op, Segments segments) = 0;

  virtual int n_threads() const noexcept = 0;
  /// Parallel regions so far: what a layer costs in barriers.
  virtual std::uint64_t n_barriers() const noexcept = 0;
};

/// Whether products leave out inputs that are zero, where weights are packed for it.
enum class Skipping : std::uint8_t {
  kNever,
  kAuto,  // where enough are zero to be faster
  kAlways,
};

/// What RWKVCPP_SPARSE says: off, auto (also when it says nothing) or on. UnsupportedError for
/// anything else.
Skipping skipping_from_environment();

struct OpsOptions {
  int n_threads = 0;               // 0: default_threads()
  bool float_activations = false;  // block weights meet float32 too
  bool collect_moments = false;    // of what each matrix is multiplied with
  Skipping skipping = skipping_from_environment();
};

/// Physical cores that this process may use.
int default_threads();

}  // namespace rwkvcpp
