#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace rwkvcpp {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float& logit_of(TokenId token, std::span<float> logits, const char* field) {
  const auto id = static_cast<std::size_t>(token);
  if (id < logits.size()) return logits[id];
  throw std::out_of_range(std::string(field) + " names token " + std::to_string(token) +
                          ", but there are " + std::to_string(logits.size()) + " logits");
}

[[noreturn]] void refuse_nan(std::span<const float> logits) {
  const auto is_nan = [](float logit) { return std::isnan(logit); };
  const auto first = std::find_if(logits.begin(), logits.end(), is_nan);
  throw std::invalid_argument("logits[" + std::to_string(first - logits.begin()) + "] is nan (" +
                              std::to_string(std::count_if(first, logits.end(), is_nan)) + " of " +
                              std::to_string(logits.size()) + " are), expected numbers");
}

void check_adjusted(const Maximum& max, std::span<const float> logits) {
  if (!max.all_numbers) refuse_nan(logits);
  if (max.value == kInfinity) {
    const auto at = std::find(logits.begin(), logits.end(), kInfinity) - logits.begin();
    throw std::invalid_argument("logits[" + std::to_string(at) +
                                "] is inf after bias and penalties, expected a finite number");
  }
  if (max.value == -kInfinity) {
    throw std::invalid_argument("all of the " + std::to_string(logits.size()) +
                                " logits are -inf after bans, expected one that is not");
  }
}

// The token at which the sum of those values whose key is above `floor` passes u * mass.total.
std::size_t pick(std::span<const float> values, std::span<const float> keys, float floor,
                 const Mass& mass, double u) {
  const double target = u * mass.total;
  double sum = 0.0;
  double before = 0.0;  // the sum before the block
  std::size_t block = 0;
  for (std::size_t i = 0; i < mass.blocks.size() && sum <= target; ++i) {
    if (mass.blocks[i] == 0.0) continue;
    block = i;
    before = std::exchange(sum, sum + mass.blocks[i]);
  }
  sum = before;
  std::size_t token = 0;  // the last candidate, should rounding let the sum fall short
  const std::size_t end = (block + 1) * kSumBlock;
  for (std::size_t i = block * kSumBlock; i < end && sum <= target; ++i) {
    if (!(keys[i] > floor) || values[i] == 0.0f) continue;
    token = i;
    sum += values[i];
  }
  return token;
}

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::uint64_t seed)
    : params_(params),
      order_((check(params), &order_of(params))),
      penalties_(params.presence_penalty, params.frequency_penalty, params.penalty_decay,
                 order_->fading),
      rng_(seed) {}

TokenId Sampler::sample(std::span<const float> logits) {
  adjust(logits);
  if (!is_greedy()) weigh();
  const auto token = static_cast<TokenId>(is_greedy() ? most_probable() : draw());
  penalties_.observe(token);
  return token;
}

void Sampler::restore(SamplerMemory memory) {
  penalties_.restore(std::move(memory.occurrences));
  rng_ = SplitMix64(memory.rng);
}

void Sampler::probabilities(std::span<const float> logits, std::span<float> out) {
  adjust(logits);
  std::fill(out.begin(), out.end(), 0.0f);
  if (is_greedy()) {
    out[most_probable()] = 1.0f;
    return;
  }
  weigh();
  const float lowest = cutoff();
  const std::span<const float> values = tempered();
  sum_above(weights_, weights_, lowest, heavier_);
  const double share = share_inside(lowest);
  double sum = 0.0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (weights_[i] < lowest) continue;
    out[i] = static_cast<float>(weights_[i] == lowest ? share * values[i] : values[i]);
    sum += out[i];
  }
  for (float& probability : out) probability = static_cast<float>(probability / sum);
}

bool Sampler::is_greedy() const noexcept {
  return params_.temperature == 0.0 || params_.top_p == 0.0 || params_.top_k == 1;
}

bool Sampler::is_tempered_last() const noexcept {
  return !order_->temperature_first && params_.temperature != 1.0;
}

std::span<const float> Sampler::tempered() const noexcept {
  return is_tempered_last() ? tempered_ : weights_;
}

void Sampler::adjust(std::span<const float> logits) {
  if (logits.empty()) throw std::invalid_argument("there are 0 logits, expected at least 1");
  logits_.resize(padded(logits.size()));
  std::fill(std::copy(logits.begin(), logits.end(), logits_.begin()), logits_.end(), -kInfinity);
  const std::span<float> adjusted = std::span(logits_).first(logits.size());
  for (const auto& [token, bias] : params_.logit_bias) {
    logit_of(token, adjusted, "logit_bias") += static_cast<float>(bias);
  }
  penalties_.apply(adjusted);
  for (const TokenId token : params_.banned_tokens) {
    logit_of(token, adjusted, "banned_tokens") = -kInfinity;
  }
  const Maximum max = find_maximum(logits_);
  check_adjusted(max, adjusted);
  max_ = max.value;
}

// Of equals the first.
std::size_t Sampler::most_probable() const noexcept {
  const auto at = std::find(logits_.begin(), logits_.end(), max_);
  return static_cast<std::size_t>(at - logits_.begin());
}

void Sampler::weigh() {
  const bool temper_now = order_->temperature_first;
  weights_.resize(logits_.size());
  exponentials(logits_, max_, temper_now ? static_cast<float>(1.0 / params_.temperature) : 1.0f,
               weights_, mass_);
  total_ = mass_.total;
  if (params_.top_k > 0) {
    keep_largest(static_cast<std::size_t>(params_.top_k), weights_, total_);
    sum_above(weights_, weights_, 0.0f, mass_);
    if (order_->top_p_of_top_k) total_ = mass_.total;
  }
  nucleus_ = params_.top_p * total_;
  if (is_tempered_last()) temper();
}

// p^(1/T) = exp(z/T) where it can matter: were all weights up to `floor` left out, no less than the
// nucleus would remain, so the nucleus ends above it. (A thousandth off, for rounding.)
void Sampler::temper() {
  const auto n = static_cast<double>(logits_.size());
  const auto floor = static_cast<float>(0.999 * (1.0 - params_.top_p) * total_ / n);
  tempered_.resize(logits_.size());
  exponentials_above(logits_, max_, static_cast<float>(1.0 / params_.temperature), weights_, floor,
                     tempered_, mass_);
}

std::size_t Sampler::draw() {
  float floor = 0.0f;
  for (;;) {
    const std::size_t token = pick(tempered(), weights_, floor, mass_, rng_.uniform());
    if (params_.top_p == 1.0) return token;
    floor = weights_[token];
    sum_above(weights_, weights_, floor, heavier_);
    // The most probable token, which nothing outweighs, ends this loop at the latest.
    if (heavier_.total < nucleus_ || heavier_.total == 0.0) return draw_inside(token);
    if (is_tempered_last()) {
      sum_above(tempered_, weights_, floor, mass_);
    } else {
      std::swap(mass_, heavier_);
    }
  }
}

// How much of the tokens that weigh `weight` is in the nucleus; heavier_ is summed for it.
double Sampler::share_inside(float weight) const noexcept {
  const bool is_alone = heavier_.total == 0.0;  // a part of it would be all that there is
  if (!order_->edge_in_part || params_.top_p == 1.0 || is_alone) return 1.0;
  const double edge = static_cast<double>(count_equal(weight, weights_)) * weight;
  return std::min(1.0, (nucleus_ - heavier_.total) / edge);
}

// `token` is in the nucleus, if in part: what of it is outside goes to all that are inside.
std::size_t Sampler::draw_inside(std::size_t token) {
  const float weight = weights_[token];
  const double share = share_inside(weight);
  if (share == 1.0 || rng_.uniform() < share) return token;
  const double target = rng_.uniform() * nucleus_;
  if (target >= heavier_.total) return token;
  return pick(weights_, weights_, weight, heavier_, target / heavier_.total);
}

// The lowest weight that draw() accepts.
float Sampler::cutoff() {
  std::vector<float> descending;
  std::copy_if(weights_.begin(), weights_.end(), std::back_inserter(descending),
               [](float weight) { return weight > 0.0f; });
  std::sort(descending.begin(), descending.end(), std::greater<>());
  if (params_.top_p == 1.0) return descending.back();
  const auto in_nucleus = [this](float weight) {
    sum_above(weights_, weights_, weight, heavier_);
    return heavier_.total < nucleus_ || heavier_.total == 0.0;
  };
  return *(std::partition_point(descending.begin(), descending.end(), in_nucleus) - 1);
}

}  // namespace rwkvcpp
