#include "sampling/penalties.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace rwkvcpp {

void Penalties::apply(std::span<float> logits) const {
  for (const auto& [token, count] : occurrences_) {
    if (token >= logits.size()) {
      throw std::out_of_range("token " + std::to_string(token) + " was observed, but there are " +
                              std::to_string(logits.size()) + " logits");
    }
    logits[token] -= static_cast<float>(penalty(count));
  }
}

void Penalties::observe(TokenId token) {
  if (token < 0) throw std::out_of_range("token " + std::to_string(token) + " is negative");
  if (presence_ == 0.0 && frequency_ == 0.0) return;  // counts would change nothing
  const auto id = static_cast<std::size_t>(token);
  const auto [found, is_new] = place_.try_emplace(id, occurrences_.size());
  if (is_new) occurrences_.push_back({id, 0.0});
  const double grown = growth(occurrences_[found->second].count);
  for (Occurrence& occurrence : occurrences_) occurrence.count *= decay_;
  occurrences_[found->second].count += grown;
}

double Penalties::penalty(double count) const noexcept {
  return fading_ == Fading::kPenalties ? count : presence_ + count * frequency_;
}

double Penalties::growth(double count) const noexcept {
  if (fading_ == Fading::kCounts) return 1.0;
  return count == 0.0 ? presence_ : frequency_;
}

void Penalties::restore(std::vector<Occurrence> occurrences) {
  std::unordered_map<std::size_t, std::size_t> place;
  for (const auto& [token, count] : occurrences) {
    const std::string name = "token " + std::to_string(token);
    if (token > static_cast<std::size_t>(std::numeric_limits<TokenId>::max())) {
      throw std::invalid_argument(name + " was counted, expected an id below 2^31");
    }
    const bool is_count = fading_ == Fading::kCounts;  // else a penalty, which may be negative
    if (!std::isfinite(count) || (is_count && count < 0)) {
      throw std::invalid_argument("the count of " + name + " is " + std::to_string(count) +
                                  ", expected " + (is_count ? "0 or more" : "a finite number"));
    }
    if (!place.emplace(token, place.size()).second) {
      throw std::invalid_argument(name + " is counted twice");
    }
  }
  occurrences_ = std::move(occurrences);
  place_ = std::move(place);
}

}  // namespace rwkvcpp
