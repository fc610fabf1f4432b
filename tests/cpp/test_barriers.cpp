// What a layer costs in barriers when one row is decoded: parallel regions that are shared among
// threads. A small model is bound by them, not by memory.
#include <cstdint>
#include <string>
#include <vector>

#include "doctest.h"
#include "random_model.h"

namespace {

using namespace rwkvcpp;
using namespace rwkvcpp::testing;

/// As wide as the released 0.4B, so that regions have pieces for more than one thread.
constexpr ModelSize kWide = {
    .vocab = 64, .embd = 1024, .ffn = 4096, .rank = 64, .layers = 1, .heads = 16};

using Build = ModelBuilder (*)(const ModelSize&);

struct Limit {
  std::string version;
  Build build;
  std::uint64_t n_barriers;  // a layer
};

// Versions 6 and 7: what was promised. The older ones: what they take, not to become more.
const Limit kLimits[] = {
    {"4", rwkv4, 5},
    {"5.2", rwkv5_2, 5},
    {"6", rwkv6, 9},
    {"7", rwkv7, 7},
};

std::uint64_t barriers_of_one_row(Build build, std::size_t n_layers) {
  ModelSize size = kWide;
  size.layers = n_layers;
  const ModelOnDisk file(build(size).bytes(WeightType::kQ8_0));
  const auto model = file.load({.threads = 2});
  const auto state = model->initial_state();
  std::vector<float> logits(size.vocab);
  const TokenId token = 1;
  const Sequence sequence = {{&token, 1}, state.get()};
  const std::uint64_t before = model->n_barriers();
  model->forward({&sequence, 1}, false, logits);
  return model->n_barriers() - before;
}

}  // namespace

TEST_CASE("a layer of one row takes few barriers") {
  for (const Limit& limit : kLimits) {
    CAPTURE(limit.version);
    // The second layer: what all but the first cost, without embedding and head.
    const std::uint64_t one = barriers_of_one_row(limit.build, 1);
    const std::uint64_t layer = barriers_of_one_row(limit.build, 2) - one;
    CHECK(layer > 0);
    CHECK(layer <= limit.n_barriers);
    CHECK(one <= layer + 1);  // the head's
  }
}
