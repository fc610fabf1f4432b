// Model and State: calls of every shape, wrong calls, wrong files. The numbers
// themselves are checked against NumPy in tests/python.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "core/error.h"
#include "doctest.h"
#include "model/model.h"
#include "model/model_info.h"
#include "numeric.h"
#include "random_model.h"

namespace {

namespace fs = std::filesystem;
using namespace rwkvcpp;
using rwkvcpp::testing::ModelBuilder;
using rwkvcpp::testing::ModelOnDisk;
using rwkvcpp::testing::ModelSize;
using rwkvcpp::testing::Random;
using rwkvcpp::testing::rwkv4;
using rwkvcpp::testing::rwkv7;

constexpr std::size_t kVocab = ModelSize{}.vocab;
constexpr std::size_t kEmbd = ModelSize{}.embd;
constexpr std::size_t kLayers = ModelSize{}.layers;

std::unique_ptr<Model> loaded(const ModelBuilder& model, const ModelOptions& options = {}) {
  return ModelOnDisk(model.bytes()).load(options);
}

std::vector<TokenId> tokens(std::size_t n, std::uint64_t seed = 1) {
  Random random(seed);
  std::vector<TokenId> ids(n);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.bits() % kVocab);
  return ids;
}

std::vector<float> run(Model& model, State& state, std::span<const TokenId> ids,
                       bool all_logits = false) {
  std::vector<float> logits((all_logits ? ids.size() : 1) * model.config().n_vocab);
  const Sequence sequence = {ids, &state};
  model.forward({&sequence, 1}, all_logits, logits);
  return logits;
}

std::vector<float> run_hidden(Model& model, State& state, std::span<const TokenId> ids) {
  std::vector<float> rows(ids.size() * model.config().n_embd);
  const Sequence sequence = {ids, &state};
  model.hidden({&sequence, 1}, rows);
  return rows;
}

using Arrays = std::map<std::string, std::vector<float>>;

Arrays arrays_of(const State& state) {
  Arrays arrays;
  for (const StateArray& array : state.layout().arrays) {
    arrays[array.name].resize(array.size());
    state.read(array, arrays[array.name].data());
  }
  return arrays;
}

std::vector<NamedArray> named(const State& state, const Arrays& arrays) {
  std::vector<NamedArray> list;
  for (const StateArray& array : state.layout().arrays) {
    list.push_back({array.name, array.shape, arrays.at(array.name).data()});
  }
  return list;
}

/// The message of an error of this type, with the file's folder taken out.
template <class E, class F>
std::string message(F f) {
  try {
    f();
  } catch (const E& e) {
    const std::string text = e.what();
    const std::size_t name = text.find("tiny.bin");
    return name == std::string::npos ? text : text.substr(name);
  } catch (const std::exception& e) {
    return std::string("another error: ") + e.what();
  }
  return "no error";
}

template <class E>
std::string load_error(const ModelBuilder& model) {
  return message<E>([&] { loaded(model); });
}

}  // namespace

// ---- calls of every shape -----------------------------------------------------

TEST_CASE("a prompt may be fed in pieces of any length") {
  for (const ModelBuilder& weights : {rwkv7(), rwkv4()}) {
    const auto model = loaded(weights);
    const std::vector<TokenId> prompt = tokens(300);
    const auto whole = model->initial_state();
    const auto pieces = model->initial_state();
    const std::vector<float> expected = run(*model, *whole, prompt);

    std::vector<float> actual;
    std::size_t begin = 0;
    for (const std::size_t n : {1, 129, 128, 2, 40}) {
      actual = run(*model, *pieces, std::span(prompt).subspan(begin, n));
      begin += n;
    }
    REQUIRE(begin == prompt.size());
    CHECK(actual == expected);
    CHECK(arrays_of(*pieces) == arrays_of(*whole));
    CHECK(pieces->n_tokens() == 300);
  }
}

TEST_CASE("sequences in one call do not see each other") {
  const auto model = loaded(rwkv7());
  // More than a chunk in all, and more sequences than rows of logits at a time.
  std::vector<std::vector<TokenId>> texts;
  for (std::size_t i = 0; i < 40; ++i) texts.push_back(tokens(1 + i % 9, i));
  texts.push_back(tokens(200, 99));

  std::vector<float> expected;
  std::vector<std::shared_ptr<State>> states;
  std::vector<Sequence> batch;
  for (const auto& text : texts) {
    const auto alone = run(*model, *model->initial_state(), text);
    expected.insert(expected.end(), alone.begin(), alone.end());
    states.push_back(model->initial_state());
    batch.push_back({text, states.back().get()});
  }
  std::vector<float> logits(batch.size() * kVocab);
  model->forward(batch, false, logits);
  CHECK(logits == expected);
}

TEST_CASE("all logits are those of one token after the other") {
  const auto model = loaded(rwkv7());
  const std::vector<TokenId> prompt = tokens(150);
  std::vector<float> expected;
  const auto state = model->initial_state();
  for (const TokenId token : prompt) {
    const auto logits = run(*model, *state, {&token, 1});
    expected.insert(expected.end(), logits.begin(), logits.end());
  }
  CHECK(run(*model, *model->initial_state(), prompt, true) == expected);
}

TEST_CASE("hidden rows are what the head makes logits of, however a prompt is cut") {
  ModelBuilder weights = rwkv7();
  const auto model = loaded(weights);
  const std::vector<TokenId> prompt = tokens(150);
  const auto whole = model->initial_state();
  const std::vector<float> rows = run_hidden(*model, *whole, prompt);

  const std::vector<float> logits = run(*model, *model->initial_state(), prompt, true);
  const std::vector<float>& head = weights["head.weight"].values;  // [kVocab, kEmbd]
  for (std::size_t i = 0; i < logits.size(); ++i) {
    double expected = 0;
    for (std::size_t c = 0; c < kEmbd; ++c) {
      expected += double{rows[i / kVocab * kEmbd + c]} * double{head[i % kVocab * kEmbd + c]};
    }
    REQUIRE(logits[i] == doctest::Approx(expected).epsilon(1e-4).scale(1));
  }

  const auto pieces = model->initial_state();
  std::vector<float> cut = run_hidden(*model, *pieces, std::span(prompt).first(33));
  const auto rest = run_hidden(*model, *pieces, std::span(prompt).subspan(33));
  cut.insert(cut.end(), rest.begin(), rest.end());
  CHECK(cut == rows);
  CHECK(arrays_of(*pieces) == arrays_of(*whole));
  CHECK(pieces->n_tokens() == 150);
}

TEST_CASE("mapped and packed weights, one thread and three give the same bits") {
  const ModelOnDisk file(rwkv7().bytes(WeightType::kF16));
  const std::vector<TokenId> prompt = tokens(20);
  const auto packed = file.load({.threads = 1});
  const auto mapped = file.load({.threads = 3, .mmap = true});
  CHECK(packed->packed_bytes() == model_info(ModelFile::open(file.path())).packed_bytes);
  CHECK(mapped->packed_bytes() == 0);
  CHECK(run(*packed, *packed->initial_state(), prompt) ==
        run(*mapped, *mapped->initial_state(), prompt));
}

TEST_CASE("threads take turns on one model") {
  const auto model = loaded(rwkv7());
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&model, &result = results[i], i] {
      result = run(*model, *model->initial_state(), tokens(30, i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < results.size(); ++i) {
    CHECK(results[i] == run(*model, *model->initial_state(), tokens(30, i)));
  }
}

TEST_CASE("trained models give the logits stored beside them") {
  const fs::path folder = fs::path(RWKVCPP_SOURCE_DIR) / ".." / "shared" / "models";
  if (!fs::exists(folder)) {
    MESSAGE("skipped: there is no ../shared/models");
    return;
  }
  struct Case {
    const char* name;
    float group_norm_eps;
  };
  for (const auto& [name, eps] : {Case{"4v0-660K", 64e-5F}, Case{"5v1-730K", 1e-5F},
                                  Case{"5v2-730K", 1e-5F}, Case{"7v0-834K", 64e-5F}}) {
    CAPTURE(name);
    std::vector<float> expected(256);
    std::ifstream(folder / ("expected-logits-" + std::string(name) + ".bin"), std::ios::binary)
        .read(reinterpret_cast<char*>(expected.data()), 1024);
    const std::string path = (folder / ("tiny-rwkv-" + std::string(name) + "-FP32.bin")).string();
    const auto model = Model::load(path, {.group_norm_eps = eps});
    const TokenId prompt[] = {'"', 'i', 'n'};
    const std::vector<float> logits = run(*model, *model->initial_state(), prompt);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(std::abs(logits[i] - expected[i]) <= 1e-5F);  // what another engine's order differs by
    }
  }
}

// ---- wrong calls --------------------------------------------------------------

TEST_CASE("a wrong call says why and changes nothing") {
  const auto model = loaded(rwkv7());
  const auto stranger = loaded(rwkv4())->initial_state();
  const auto good = model->initial_state();
  const auto other = model->initial_state();
  run(*model, *good, tokens(5));
  const Arrays before = arrays_of(*good);

  const std::vector<TokenId> fine = {1, 2};
  const std::vector<TokenId> high = {1, 50};
  const std::vector<TokenId> negative = {-1};
  std::vector<float> logits(2 * kVocab);
  const auto error = [&]<class E>(E, std::vector<Sequence> batch) {
    return message<E>([&] { model->forward(batch, false, logits); });
  };

  CHECK(error(std::invalid_argument(""), {}) == "no sequence was given, expected at least one");
  CHECK(error(std::invalid_argument(""), {{fine, good.get()}, {{}, other.get()}}) ==
        "sequence 1 has no tokens, expected at least one");
  CHECK(error(std::out_of_range(""), {{fine, good.get()}, {high, other.get()}}) ==
        "token 50 at position 1 is out of range, n_vocab is 50");
  CHECK(error(std::out_of_range(""), {{negative, good.get()}, {fine, other.get()}}) ==
        "token -1 at position 0 is out of range, n_vocab is 50");
  CHECK(error(StateError(""), {{fine, good.get()}, {fine, good.get()}}) ==
        "a state is given twice in one call, expected one per sequence");
  CHECK(error(StateError(""), {{fine, good.get()}, {fine, stranger.get()}})
            .starts_with("tiny.bin (RWKV 7, 3 layers of 32)"));
  CHECK(error(std::invalid_argument(""), {{fine, good.get()}}) ==
        "room for 100 logits was given, expected 1 x 50");
  CHECK(message<std::invalid_argument>([&] {
          const Sequence sequence = {fine, good.get()};
          model->hidden({&sequence, 1}, logits);
        }) == "room for 100 numbers was given, expected 2 x 32");
  {
    const auto lock = claim(*other);
    CHECK(error(StateError(""), {{fine, good.get()}, {fine, other.get()}}) ==
          "the state is in use by another thread");
  }
  CHECK(arrays_of(*good) == before);
  CHECK(good->n_tokens() == 5);
  CHECK(error(StateError(""), {{fine, good.get()}, {fine, other.get()}}) == "no error");
}

TEST_CASE("an interruption between chunks puts the states back") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  const auto bystander = model->initial_state();
  run(*model, *state, tokens(5));
  const Arrays before = arrays_of(*state);
  const Arrays untouched = arrays_of(*bystander);

  const std::vector<TokenId> two = tokens(2);
  const std::vector<TokenId> many = tokens(400);
  const Sequence batch[] = {{two, bystander.get()}, {many, state.get()}};
  std::vector<float> logits(2 * kVocab);
  int n_chunks = 0;
  const auto interrupt = [&] {
    if (++n_chunks == 2) throw std::runtime_error("interrupted");
  };
  CHECK_THROWS_WITH(model->forward(batch, false, logits, interrupt), "interrupted");
  CHECK(arrays_of(*state) == before);
  CHECK(arrays_of(*bystander) == untouched);
  CHECK(state->n_tokens() == 5);
  CHECK_NOTHROW(model->forward(batch, false, logits));  // nothing is held any more
}

TEST_CASE("wrong options are refused before the file is read") {
  CHECK(message<std::invalid_argument>([] { Model::load("absent", {.threads = -1}); }) ==
        "threads is -1, expected 1 to 1024, or 0 for the default");
  CHECK(message<std::invalid_argument>([] {
          Model::load("absent", {.group_norm_eps = NAN});
        }).starts_with("group_norm_eps is nan"));
}

// ---- states -------------------------------------------------------------------

TEST_CASE("a state belongs to weights, whatever their types") {
  const ModelBuilder weights = rwkv7();
  const auto full = loaded(weights);
  const auto half = ModelOnDisk(weights.bytes(WeightType::kF16)).load();
  const auto state = full->initial_state();
  run(*full, *state, tokens(3));
  CHECK_NOTHROW(run(*half, *state, tokens(3)));

  ModelBuilder other_weights = rwkv7();
  other_weights["blocks.2.ffn.x_k"].values[5] += 0.25F;
  const auto other = loaded(other_weights);
  CHECK_THROWS_AS(run(*other, *state, tokens(3)), StateError);
}

TEST_CASE("a clone goes its own way from where its original was") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  run(*model, *state, tokens(5));
  const auto copy = state->clone();
  CHECK(copy->n_tokens() == 5);
  const auto expected = run(*model, *state, tokens(7, 2));
  CHECK(arrays_of(*copy) != arrays_of(*state));
  CHECK(run(*model, *copy, tokens(7, 2)) == expected);
}

TEST_CASE("arrays carry a state from one object to another") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  const auto other = model->initial_state();
  run(*model, *state, tokens(5));
  const Arrays arrays = arrays_of(*state);
  other->assign(named(*other, arrays));
  CHECK(arrays_of(*other) == arrays);
  CHECK(run(*model, *other, tokens(4)) == run(*model, *state, tokens(4)));
}

TEST_CASE("arrays have the names, shapes and order of the torch package") {
  const auto seven = loaded(rwkv7())->initial_state();
  std::vector<std::string> names;
  for (const StateArray& array : seven->layout().arrays) names.push_back(array.name);
  CHECK(std::vector(names.begin(), names.begin() + 4) ==
        std::vector<std::string>{"blocks.0.att.x", "blocks.0.att.wkv", "blocks.0.ffn.x",
                                 "blocks.1.att.x"});
  CHECK(seven->layout().arrays[1].shape == std::vector<std::size_t>{2, 16, 16});

  // Inside [head][key][value], outside [head][value][key].
  const StateArray& wkv = seven->layout().arrays[1];
  seven->data()[wkv.offset + 256 + 16 * 3 + 5] = 1;  // head 1, key 3, value 5
  CHECK(arrays_of(*seven).at("blocks.0.att.wkv")[256 + 16 * 5 + 3] == 1.0F);

  const auto four = loaded(rwkv4())->initial_state();
  const Arrays initial = arrays_of(*four);
  CHECK(initial.size() == 5 * kLayers);
  CHECK(initial.at("blocks.1.att.pp") == std::vector<float>(kEmbd, -1e30F));
  for (const char* name :
       {"blocks.1.att.x", "blocks.1.att.aa", "blocks.1.att.bb", "blocks.1.ffn.x"}) {
    CHECK(initial.at(name) == std::vector<float>(kEmbd, 0.0F));
  }
}

TEST_CASE("values carry a state from one object to another, with where it comes from") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  const auto other = model->initial_state();
  run(*model, *state, tokens(5));
  std::vector<float> values(state->layout().n_values());
  state->read_all(values.data());
  other->restore(values, state->history());
  CHECK(arrays_of(*other) == arrays_of(*state));
  CHECK(other->n_tokens() == 5);
  CHECK(other->history().hash == state->history().hash);
  CHECK(run(*model, *other, tokens(4)) == run(*model, *state, tokens(4)));
}

TEST_CASE("values that are not finite, or too few, are refused both ways") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  run(*model, *state, tokens(5));
  const Arrays before = arrays_of(*state);
  std::vector<float> values(state->layout().n_values(), 1.0F);
  const auto error = [&](std::span<const float> given) {
    return message<StateError>([&] { state->restore(given, {}); });
  };

  CHECK(error(std::span(values).first(values.size() - 1))
            .starts_with("a state of RWKV 7, 3 layers of 32 has 1728 values, 1727 were given"));
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    values[32 + 7] = bad;  // behind blocks.0.att.x
    CHECK(error(values) == "state array blocks.0.att.wkv holds " + std::to_string(bad) +
                               " at position 7, expected finite numbers");
  }
  CHECK(arrays_of(*state) == before);
  CHECK(state->n_tokens() == 5);

  state->data()[state->layout().arrays[2].offset] = INFINITY;
  CHECK(message<StateError>([&] {
          state->read_all(values.data());
        }).starts_with("state array blocks.0.ffn.x holds inf at position 0"));
}

TEST_CASE("a hash tells histories apart, and not how they were cut") {
  const auto model = loaded(rwkv7());
  const auto hash_of = [&](std::initializer_list<std::vector<TokenId>> pieces) {
    const auto state = model->initial_state();
    for (const std::vector<TokenId>& piece : pieces) run(*model, *state, piece);
    return state->history().hash;
  };
  CHECK(hash_of({{1, 2, 3}}) == hash_of({{1}, {2, 3}}));
  CHECK(hash_of({{1, 2, 3}}) != hash_of({{1, 3, 2}}));
  CHECK(hash_of({{1, 2, 3}}) != hash_of({{1, 2}}));
  CHECK(hash_of({{0}}) != hash_of({{0, 0}}));
  CHECK(hash_of({{0}}) != History{}.hash);

  const auto begun = model->initial_state();  // with values
  Arrays arrays = arrays_of(*begun);
  arrays.at("blocks.1.att.wkv")[3] = 1.0F;
  begun->assign(named(*begun, arrays));
  CHECK(begun->n_tokens() == 0);
  CHECK(begun->history().hash != History{}.hash);
  run(*model, *begun, tokens(1));
  CHECK(begun->history().hash != hash_of({tokens(1)}));
}

TEST_CASE("arrays that do not fit are refused, and nothing is taken") {
  const auto model = loaded(rwkv7());
  const auto state = model->initial_state();
  const Arrays before = arrays_of(*state);
  Arrays arrays = before;
  for (auto& [name, values] : arrays) std::ranges::fill(values, 1.0F);
  const std::vector<NamedArray> right = named(*state, arrays);
  const auto error = [&](const std::vector<NamedArray>& list) {
    return message<StateError>([&] { state->assign(list); });
  };

  std::vector<NamedArray> wrong = right;
  wrong.back().shape = {31};
  CHECK(error(wrong) == "state array blocks.2.ffn.x is [31], expected [32]");
  wrong.pop_back();
  CHECK(error(wrong) == "state array blocks.2.ffn.x is missing");
  wrong = right;
  wrong.push_back(right[0]);
  CHECK(error(wrong) == "state array blocks.0.att.x is given twice");
  wrong.back().name = "blocks.9.att.x";
  CHECK(error(wrong) ==
        "unknown state arrays: blocks.9.att.x; this is a state of RWKV 7, 3 layers of 32");
  CHECK(arrays_of(*state) == before);
  CHECK(error(right) == "no error");
}

// ---- wrong files --------------------------------------------------------------

TEST_CASE("a file whose tensors do not fit together is named with the tensor") {
  ModelBuilder wrong = rwkv7();
  wrong["blocks.1.att.w1"].dims = {16, 16};
  CHECK(load_error<ModelFormatError>(wrong) ==
        "tiny.bin: tensor blocks.1.att.w1 is [16, 16], expected [16, 32]");

  wrong = rwkv7();
  wrong.remove("blocks.2.att.k_a");
  CHECK(load_error<ModelFormatError>(wrong) == "tiny.bin: tensor blocks.2.att.k_a is missing");

  wrong = rwkv7();
  wrong["blocks.0.att.output.weight"].dims = {kEmbd * kEmbd};
  CHECK(load_error<ModelFormatError>(wrong) ==
        "tiny.bin: tensor blocks.0.att.output.weight is [1024], expected [32, 32]");

  wrong = rwkv7();
  wrong["blocks.0.ln1.bias"].dims = {16};
  wrong["blocks.0.ln1.bias"].values.resize(16);
  CHECK(load_error<ModelFormatError>(wrong) ==
        "tiny.bin: tensor blocks.0.ln1.bias is [16], expected [32]");
}

TEST_CASE("tensors that nobody asked for are listed, ten of them") {
  ModelBuilder odd = rwkv4();
  for (char c = 'a'; c <= 'l'; ++c) odd.add(std::string("blocks.1.att.extra_") + c, {3});
  CHECK(load_error<UnsupportedError>(odd) ==
        "tiny.bin: unexpected tensors: blocks.1.att.extra_a, blocks.1.att.extra_b, "
        "blocks.1.att.extra_c, blocks.1.att.extra_d, blocks.1.att.extra_e, "
        "blocks.1.att.extra_f, blocks.1.att.extra_g, blocks.1.att.extra_h, "
        "blocks.1.att.extra_i, blocks.1.att.extra_j and 2 more");
}

TEST_CASE("research variants are refused by name") {
  ModelBuilder variant = rwkv7();
  variant.add("blocks.0.ffn.s_emb.weight", {4, 4});
  CHECK(load_error<UnsupportedError>(variant) ==
        "tiny.bin: is RWKV-7a (DeepEmbed), this build runs RWKV 4, 5.0, 5.1, 5.2, 6 and 7; "
        "unexpected tensors: blocks.0.ffn.s_emb.weight");
}

TEST_CASE("the first layer's value residual may be in the file or not") {
  ModelBuilder without = rwkv7();
  for (const char* name : {"v0", "v1", "v2"}) {
    without.remove(std::string("blocks.0.att.") + name);
  }
  const auto a = loaded(rwkv7());
  const auto b = loaded(without);
  CHECK(run(*a, *a->initial_state(), tokens(4)) == run(*b, *b->initial_state(), tokens(4)));
  CHECK(a->packed_bytes() == b->packed_bytes());
}

TEST_CASE("progress counts every byte once, and may end the loading") {
  const ModelOnDisk file(rwkv7().bytes());
  std::vector<std::pair<std::uint64_t, std::uint64_t>> reports;
  Model::load(file.path(), {}, [&](std::uint64_t done, std::uint64_t total) {
    if (!reports.empty()) CHECK(done >= reports.back().first);
    reports.emplace_back(done, total);
  });
  REQUIRE(reports.size() > 100);
  CHECK(reports.back().first == reports.back().second);
  CHECK(reports.front().second == reports.back().second);

  const auto stop = [](std::uint64_t, std::uint64_t) { throw std::runtime_error("enough"); };
  CHECK_THROWS_WITH(Model::load(file.path(), {}, stop), "enough");
}

TEST_CASE("a file that shrinks under a mapped model is an error, not a crash") {
  const ModelOnDisk file(rwkv7().bytes());
  const auto model = file.load({.mmap = true});
  const auto state = model->initial_state();
  run(*model, *state, tokens(3));
  const Arrays before = arrays_of(*state);
  fs::resize_file(file.path(), 1000);
  CHECK_THROWS_AS(run(*model, *state, tokens(3)), ModelFormatError);
  CHECK(arrays_of(*state) == before);
}
