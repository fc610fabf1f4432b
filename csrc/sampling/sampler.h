// Draws one token from logits: penalties, bias and bans, softmax, the cuts, the draw.
//
// Whether a token is in the nucleus needs no sorting: it is, when the tokens more probable than it
// weigh less than top_p together. So we draw from all tokens and keep the first draw that is in the
// nucleus; after one that is not, only more probable tokens remain. At temperature 1 that is
// 1 + ln(1 / top_p) draws on average, whatever the distribution; each is one pass over the
// vocabulary, where selecting the nucleus takes about ten and sorting far more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/params.h"
#include "sampling/penalties.h"
#include "sampling/rng.h"
#include "sampling/weights.h"

namespace rwkvcpp {

/// What a sampler remembers of its sequence: another one of the same parameters goes on with it.
struct SamplerMemory {
  std::uint64_t rng;
  std::vector<Occurrence> occurrences;
};

class Sampler {
 public:
  /// std::invalid_argument for parameters out of their range.
  Sampler(const SamplingParams& params, std::uint64_t seed);

  /// One token; counts it for the penalties. std::invalid_argument when a logit is NaN or +inf, or
  /// all are -inf; std::out_of_range when a biased, banned or observed token has no logit. Nothing
  /// has changed then.
  TokenId sample(std::span<const float> logits);

  /// Counts a token that was not sampled, a prompt's, as sample() would have.
  void observe(TokenId token) { penalties_.observe(token); }

  SamplerMemory memory() const { return {rng_.state(), penalties_.occurrences()}; }
  /// std::invalid_argument, and nothing changed, for a memory that no sampler could have.
  void restore(SamplerMemory memory);

  /// The distribution that sample() would draw from, into out[logits.size()].
  void probabilities(std::span<const float> logits, std::span<float> out);

 private:
  bool is_greedy() const noexcept;
  bool is_tempered_last() const noexcept;

  void adjust(std::span<const float> logits);
  std::size_t most_probable() const noexcept;
  void weigh();
  void temper();
  std::size_t draw();
  double share_inside(float weight) const noexcept;
  std::size_t draw_inside(std::size_t token);
  float cutoff();
  std::span<const float> tempered() const noexcept;

  SamplingParams params_;
  const SamplingOrder* order_;
  Penalties penalties_;
  SplitMix64 rng_;

  // Of the logits at hand; rows are padded with -inf and 0.
  std::vector<float> logits_;    // with bias, penalties and bans
  float max_ = 0.0f;             // of logits_
  std::vector<float> weights_;   // what the cuts look at: probabilities times a constant
  std::vector<float> tempered_;  // what is drawn from, when that differs
  double total_ = 0.0;           // the sum of weights_ that top_p is a share of
  double nucleus_ = 0.0;         // that share
  Mass mass_;                    // of what may be drawn
  Mass heavier_;                 // of what is more probable than the token drawn
};

}  // namespace rwkvcpp
