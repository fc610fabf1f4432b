// Sampling: the passes over the vocabulary against plain loops, and what a sampler promises.
#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "doctest.h"
#include "sampling/rng.h"
#include "sampling/weights.h"

using namespace rwkvcpp;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Uniform in (-spread, 0]; peaked when the spread is wide, flat when it is narrow.
std::vector<float> random_logits(std::size_t n, double spread, std::uint64_t seed) {
  SplitMix64 rng(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = static_cast<float>(-spread * rng.uniform());
  return logits;
}

std::vector<float> probabilities(SamplingParams params, const std::vector<float>& logits) {
  std::vector<float> out(logits.size());
  Sampler(params, 1).probabilities(logits, out);
  return out;
}

std::vector<std::size_t> kept(const std::vector<float>& probabilities) {
  std::vector<std::size_t> ids;
  for (std::size_t id = 0; id < probabilities.size(); ++id) {
    if (probabilities[id] > 0.0f) ids.push_back(id);
  }
  return ids;
}

template <typename Error, typename Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("SplitMix64: the published sequence of seed 0") {
  SplitMix64 rng(0);
  CHECK(rng.next() == 0xE220A8397B1DCDAFu);
  CHECK(rng.next() == 0x6E789E6AA1B965F4u);
  CHECK(rng.next() == 0x06C45D188009454Fu);
}

TEST_CASE("exponentials: within their bound of exp, and zero far below") {
  const float max = 3.0f;
  std::vector<float> logits = random_logits(padded(100000), 86.0, 5);
  for (float& logit : logits) logit += max;
  logits[0] = max;
  logits[1] = -kInfinity;
  logits[2] = max - 87.5f;
  logits[3] = -std::numeric_limits<float>::max();
  std::vector<float> out(logits.size());
  Mass mass;
  exponentials(logits, max, 1.0f, out, mass);
  CHECK(out[0] == 1.0f);
  CHECK(out[1] == 0.0f);
  CHECK(out[2] == 0.0f);
  CHECK(out[3] == 0.0f);
  for (std::size_t i = 4; i < logits.size(); ++i) {
    const double x = static_cast<double>(logits[i]) - max;
    const double tolerance = (2e-7 + 1e-7 * std::abs(x)) * std::exp(x);
    CAPTURE(x);
    // logits[i] - max is itself rounded: half a unit of 2^-24 of the difference.
    if (!(std::abs(out[i] - std::exp(x)) <= tolerance)) FAIL("is " << out[i]);
  }
}

TEST_CASE("exponentials_above: the same where the key is above the floor, 0 elsewhere") {
  const std::vector<float> logits = random_logits(padded(1), 9.0, 6);
  std::vector<float> keys = random_logits(logits.size(), 1.0, 7);
  std::fill(keys.begin() + 64, keys.begin() + 128, -1.0f);  // whole vectors below
  std::vector<float> all(logits.size());
  std::vector<float> some(logits.size(), kNan);
  Mass mass;
  exponentials(logits, 0.0f, 0.7f, all, mass);
  exponentials_above(logits, 0.0f, 0.7f, keys, -0.5f, some, mass);
  for (std::size_t i = 0; i < logits.size(); ++i) CHECK(some[i] == (keys[i] > -0.5f ? all[i] : 0));
  Mass summed;
  sum_above(all, keys, -0.5f, summed);
  CHECK(mass.total == summed.total);
}

TEST_CASE("find_maximum: wherever it stands, and beside NaN") {
  std::vector<float> row(padded(1), -5.0f);
  for (std::size_t at = 0; at < 40; ++at) {
    std::vector<float> changed = row;
    changed[at] = -2.0f;
    CHECK(find_maximum(changed).value == -2.0f);
    CHECK(find_maximum(changed).all_numbers);
    changed[at] = kNan;
    CHECK(find_maximum(changed).value == -5.0f);
    CHECK_FALSE(find_maximum(changed).all_numbers);
  }
}

TEST_CASE("sum_above: strictly above, and never more for a higher floor") {
  std::vector<float> values = random_logits(padded(3000), 1.0, 8);
  for (float& value : values) value += 1.0f;
  Mass mass;
  sum_above(values, values, values[7], mass);
  const auto sum = [&](double so_far, float v) { return v > values[7] ? so_far + v : so_far; };
  const double expected = std::accumulate(values.begin(), values.end(), 0.0, sum);
  // 32 additions in a lane, 4 to join the lanes: each half a unit of 2^-23.
  CHECK(std::abs(mass.total - expected) <= 36 * 0x1p-24 * expected);
  CHECK(std::accumulate(mass.blocks.begin(), mass.blocks.end(), 0.0) == mass.total);

  std::vector<float> floors = values;
  std::sort(floors.begin(), floors.end());
  double before = std::numeric_limits<double>::max();
  for (const float floor : floors) {
    sum_above(values, values, floor, mass);
    CHECK(mass.total <= before);
    before = mass.total;
  }
  CHECK(before == 0.0);
}

TEST_CASE("keep_largest: as a stable sort would, for every shape of values") {
  const std::size_t n = padded(5000);
  Mass mass;
  std::vector<std::vector<float>> rows = {std::vector<float>(n, 1.0f), std::vector<float>(n)};
  for (const double spread : {0.01, 5.0, 200.0}) {
    rows.emplace_back(n);
    exponentials(random_logits(n, spread, 9), 0.0f, 1.0f, rows.back(), mass);
  }
  rows.push_back(rows[3]);
  for (float& value : rows.back()) value = std::round(value * 8.0f) / 8.0f;  // many equal ones
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (const std::size_t k : {1u, 2u, 40u, 1023u, 1024u, 1025u, 4999u, 100000u}) {
      CAPTURE(row);
      CAPTURE(k);
      const std::vector<float>& values = rows[row];
      std::vector<std::size_t> order(n);
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
      std::vector<float> expected(n, 0.0f);
      for (std::size_t i = 0; i < std::min(k, n); ++i) expected[order[i]] = values[order[i]];
      std::vector<float> actual = values;
      keep_largest(k, actual, std::accumulate(values.begin(), values.end(), 0.0));
      CHECK(actual == expected);
    }
  }
}

TEST_CASE("sampler: the same tokens from the same seed, on every CPU") {
  const std::vector<float> logits = random_logits(65536, 12.0, 3);
  SamplingParams params;
  params.temperature = 1.3;
  params.top_p = 0.7;
  Sampler sampler(params, 42);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 8; ++i) tokens.push_back(sampler.sample(logits));
  CHECK(tokens == std::vector<TokenId>{48550, 10604, 18552, 22744, 2584, 14635, 22519, 13698});
}

TEST_CASE("sampler: Rapid-Sampling's tokens are the same on every CPU, too") {
  const std::vector<float> logits = random_logits(65536, 12.0, 3);
  SamplingParams params;
  params.order = "rapid";
  params.temperature = 0.9;
  params.top_p = 0.0005;  // two tokens and a part of a third
  params.top_k = 5000;
  params.presence_penalty = 1.0;
  params.frequency_penalty = 0.1;
  Sampler sampler(params, 42);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 8; ++i) tokens.push_back(sampler.sample(logits));
  CHECK(tokens == std::vector<TokenId>{45566, 17311, 28527, 42309, 27522, 35415, 19259, 40887});
}

TEST_CASE("sampler: greedy takes the first of equals") {
  std::vector<float> logits(700, 0.0f);
  logits[613] = logits[77] = 2.0f;
  for (const auto change :
       {+[](SamplingParams& p) { p.temperature = 0.0; }, +[](SamplingParams& p) { p.top_p = 0.0; },
        +[](SamplingParams& p) { p.top_k = 1; }}) {
    SamplingParams params;
    change(params);
    CHECK(Sampler(params, 1).sample(logits) == 77);
    CHECK(kept(probabilities(params, logits)) == std::vector<std::size_t>{77});
  }
}

TEST_CASE("sampler: a nucleus keeps all that equal its last, top_k the first of them") {
  const std::vector<float> logits(600, 1.0f);
  SamplingParams params;
  params.top_p = 0.001;
  CHECK(kept(probabilities(params, logits)).size() == 600);
  params.top_k = 3;
  CHECK(kept(probabilities(params, logits)) == std::vector<std::size_t>{0, 1, 2});
}

TEST_CASE("sampler: extreme temperatures and shares stay defined") {
  std::vector<float> logits = random_logits(1000, 30.0, 4);
  logits[5] = -kInfinity;
  for (const double temperature : {5e-324, 1e-30, 1e-3, 1e3, 1e300}) {
    for (const double top_p : {5e-324, 1e-12, 0.5, 1.0 - 1e-16, 1.0}) {
      for (const char* order : {"rwkv", "openai", "rapid"}) {
        SamplingParams params;
        params.temperature = temperature;
        params.top_p = top_p;
        params.order = order;
        CAPTURE(temperature);
        CAPTURE(top_p);
        CAPTURE(order);
        const std::vector<float> p = probabilities(params, logits);
        CHECK(std::abs(std::accumulate(p.begin(), p.end(), 0.0) - 1.0) <= 1e-6);
        CHECK(p[5] == 0.0f);
        CHECK(p[static_cast<std::size_t>(Sampler(params, 9).sample(logits))] > 0.0f);
      }
    }
  }
}

TEST_CASE("sampler: logits that cannot be sampled are refused, and nothing changed") {
  std::vector<float> good(600, 0.0f);
  SamplingParams params;
  params.top_p = 1.0;
  params.presence_penalty = 0.5;
  params.banned_tokens = {599};
  Sampler sampler(params, 7);
  const auto refused = [&](const std::vector<float>& logits) {
    return message_of<std::invalid_argument>([&] { sampler.sample(logits); });
  };
  std::vector<float> bad = good;
  bad[17] = bad[30] = kNan;
  CHECK(refused(bad) == "logits[17] is nan (2 of 600 are), expected numbers");
  bad = good;
  bad[18] = kInfinity;
  CHECK(refused(bad) == "logits[18] is inf after bias and penalties, expected a finite number");
  CHECK(refused(std::vector<float>(600, -kInfinity)) ==
        "all of the 600 logits are -inf after bans, expected one that is not");
  CHECK(refused({}) == "there are 0 logits, expected at least 1");
  CHECK(message_of<std::out_of_range>([&] {
          sampler.sample({good.data(), 500});
        }) == "banned_tokens names token 599, but there are 500 logits");
  CHECK(message_of<std::out_of_range>([&] { sampler.observe(-1); }) == "token -1 is negative");

  Sampler untouched(params, 7);
  for (int i = 0; i < 20; ++i) CHECK(sampler.sample(good) == untouched.sample(good));
}

TEST_CASE("sampler: an observed token without a logit is refused") {
  SamplingParams params;
  params.presence_penalty = 0.5;
  Sampler sampler(params, 7);
  sampler.observe(600);
  const std::vector<float> logits(600, 0.0f);
  CHECK(message_of<std::out_of_range>([&] { sampler.sample(logits); }) ==
        "token 600 was observed, but there are 600 logits");
}

TEST_CASE("sampler: parameters out of their range are refused by name") {
  const auto refused = [](auto change) {
    SamplingParams params;
    change(params);
    return message_of<std::invalid_argument>([&] { Sampler(params, 1); });
  };
  CHECK(refused([](auto& p) { p.temperature = -0.5; }) ==
        "temperature is -0.5, expected a finite number from 0");
  CHECK(refused([](auto& p) { p.top_p = 1.5; }) ==
        "top_p is 1.5, expected a finite number from 0 to 1");
  CHECK(refused([](auto& p) { p.top_k = -1; }) == "top_k is -1, expected 0 or more");
  CHECK(refused([](auto& p) { p.presence_penalty = kNan; }) ==
        "presence_penalty is nan, expected a finite number");
  CHECK(refused([](auto& p) { p.frequency_penalty = kInfinity; }) ==
        "frequency_penalty is inf, expected a finite number");
  CHECK(refused([](auto& p) { p.penalty_decay = 1.1; }) ==
        "penalty_decay is 1.1, expected a finite number from 0 to 1");
  CHECK(refused([](auto& p) { p.logit_bias[3] = kNan; }) ==
        "logit_bias of token 3 is nan, expected a finite number");
  CHECK(refused([](auto& p) { p.banned_tokens = {-2}; }) ==
        "an id in banned_tokens is -2, expected 0 or more");
  CHECK(refused([](auto& p) { p.order = "rwkw"; }) ==
        "order is \"rwkw\", expected \"rwkv\" or \"openai\" or \"rapid\"");
}
