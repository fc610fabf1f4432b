// What a sampler is asked for, and the orders in which it can be done.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "sampling/penalties.h"

namespace rwkvcpp {

struct SamplingParams {
  double temperature = 1.0;  // 0: the most probable token
  double top_p = 0.5;        // 0: the most probable token; 1: off
  std::int64_t top_k = 0;    // 0: off
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  double penalty_decay = 0.996;  // of the counts, with each token; 1 keeps plain counts
  std::map<TokenId, double> logit_bias;
  std::vector<TokenId> banned_tokens;
  std::string order = "rwkv";
};

/// Where the orders of penalties, temperature, top_k and top_p differ.
struct SamplingOrder {
  std::string_view name;
  bool temperature_first;  // else a power of the probabilities that are left after the cuts
  bool top_p_of_top_k;     // top_p is a share of what top_k left; else of all tokens
  bool edge_in_part;       // a token at the edge of top_p keeps the part inside; else all of it
  Fading fading;
};

/// std::invalid_argument names the first field that is out of its range.
void check(const SamplingParams& params);

/// The order that `params` names; std::invalid_argument lists the known ones.
const SamplingOrder& order_of(const SamplingParams& params);

}  // namespace rwkvcpp
