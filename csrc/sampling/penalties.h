// Penalties: the logits of tokens that came before, made smaller.
//
//   z[token] -= presence + occurrences[token] * frequency
//
// With each new token all occurrences shrink by `decay`, then its own grows by 1: the newest counts
// 1, the one before it `decay`, and so on. A decay of 1 keeps plain counts, as OpenAI's API does.
//
// In Rapid-Sampling it is the penalties that shrink:
//
//   z[token] -= penalty[token]
//
// and then its own grows by `presence` if it was 0, else by `frequency`. So the presence of a token
// is forgotten, too, and without a presence nothing is ever penalized.
#pragma once

#include <cstddef>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/types.h"

namespace rwkvcpp {

/// What `decay` shrinks.
enum class Fading { kCounts, kPenalties };

/// How often a token came, each time faded by what came after; or its penalty.
struct Occurrence {
  std::size_t token;
  double count;
};

class Penalties {
 public:
  Penalties(double presence, double frequency, double decay, Fading fading) noexcept
      : presence_(presence), frequency_(frequency), decay_(decay), fading_(fading) {}

  /// std::out_of_range for a token that has no logit.
  void apply(std::span<float> logits) const;
  /// std::out_of_range for a negative token.
  void observe(TokenId token);

  const std::vector<Occurrence>& occurrences() const noexcept { return occurrences_; }
  /// std::invalid_argument, and nothing changed, for a token twice, or a count that cannot be.
  void restore(std::vector<Occurrence> occurrences);

 private:
  double penalty(double count) const noexcept;
  double growth(double count) const noexcept;

  double presence_;
  double frequency_;
  double decay_;
  Fading fading_;
  std::vector<Occurrence> occurrences_;
  std::unordered_map<std::size_t, std::size_t> place_;  // of a token in occurrences_
};

}  // namespace rwkvcpp
