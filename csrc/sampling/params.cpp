#include "sampling/params.h"

#include <array>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace rwkvcpp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr std::array kOrders = {
    // rwkv pip, ChatRWKV: the nucleus is that of the untempered distribution.
    SamplingOrder{.name = "rwkv",
                  .temperature_first = false,
                  .top_p_of_top_k = false,
                  .edge_in_part = false,
                  .fading = Fading::kCounts},
    // OpenAI, llama.cpp.
    SamplingOrder{.name = "openai",
                  .temperature_first = true,
                  .top_p_of_top_k = true,
                  .edge_in_part = false,
                  .fading = Fading::kCounts},
    // Rapid-Sampling, which the decoding profiles of RWKV-7 G1 are for.
    SamplingOrder{.name = "rapid",
                  .temperature_first = true,
                  .top_p_of_top_k = false,
                  .edge_in_part = true,
                  .fading = Fading::kPenalties},
};

struct Range {
  const char* field;
  double SamplingParams::*value;
  double low;
  double high;
};

constexpr std::array kRanges = {
    Range{"temperature", &SamplingParams::temperature, 0.0, kInfinity},
    Range{"top_p", &SamplingParams::top_p, 0.0, 1.0},
    Range{"presence_penalty", &SamplingParams::presence_penalty, -kInfinity, kInfinity},
    Range{"frequency_penalty", &SamplingParams::frequency_penalty, -kInfinity, kInfinity},
    Range{"penalty_decay", &SamplingParams::penalty_decay, 0.0, 1.0},
};

std::string described(const Range& range) {
  std::ostringstream text;
  text << "a finite number";
  if (range.low > -kInfinity) text << " from " << range.low;
  if (range.high < kInfinity) text << " to " << range.high;
  return text.str();
}

template <typename Value>
[[noreturn]] void refuse(std::string_view field, Value found, std::string_view expected) {
  std::ostringstream text;
  text << field << " is " << found << ", expected " << expected;
  throw std::invalid_argument(text.str());
}

void check_id(std::string_view field, TokenId id) {
  if (id < 0) refuse(std::string("an id in ") + std::string(field), id, "0 or more");
}

}  // namespace

void check(const SamplingParams& params) {
  for (const Range& range : kRanges) {
    const double value = params.*range.value;
    const bool inside = std::isfinite(value) && value >= range.low && value <= range.high;
    if (!inside) refuse(range.field, value, described(range));
  }
  if (params.top_k < 0) refuse("top_k", params.top_k, "0 or more");
  for (const auto& [id, bias] : params.logit_bias) {
    check_id("logit_bias", id);
    if (!std::isfinite(bias)) {
      refuse("logit_bias of token " + std::to_string(id), bias, "a finite number");
    }
  }
  for (const TokenId id : params.banned_tokens) check_id("banned_tokens", id);
  order_of(params);
}

const SamplingOrder& order_of(const SamplingParams& params) {
  std::string known;
  for (const SamplingOrder& order : kOrders) {
    if (order.name == params.order) return order;
    known += (known.empty() ? "\"" : " or \"") + std::string(order.name) + "\"";
  }
  refuse("order", "\"" + params.order + "\"", known);
}

}  // namespace rwkvcpp
