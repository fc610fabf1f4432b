// Norms, activations and shifts: the scalar kernel's bits everywhere, and the
// scalar kernel against the C library in double.
#include <cmath>
#include <functional>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "numeric.h"
#include "ops/ops.h"

namespace rwkvcpp::testing {
namespace {

using kernels::KernelTable;
using kernels::supported_tables;

static_assert(kernels::kEpilogueKinds == kEpilogues);

struct EpilogueCase {
  Epilogue kind;
  std::function<double(double r, double y, double bias, double a, double b)> formula;
};

double logistic(double z) { return 1 / (1 + std::exp(-z)); }

const EpilogueCase kCases[] = {
    {Epilogue::kStore, [](double r, double, double, double, double) { return r; }},
    {Epilogue::kSigmoid, [](double r, double, double, double, double) { return logistic(r); }},
    {Epilogue::kTanh, [](double r, double, double, double, double) { return std::tanh(r); }},
    {Epilogue::kSilu, [](double r, double, double, double, double) { return r * logistic(r); }},
    {Epilogue::kReluSquared,
     [](double r, double, double, double, double) { return r > 0 ? r * r : 0; }},
    {Epilogue::kAdd, [](double r, double y, double, double, double) { return y + r; }},
    {Epilogue::kGatedAdd, [](double r, double y, double, double a, double) { return y + a * r; }},
    {Epilogue::kShiftMix,
     [](double r, double, double bias, double a, double b) { return a + b * (bias + r); }},
    {Epilogue::kDecay6,
     [](double r, double, double bias, double, double) { return std::exp(-std::exp(bias + r)); }},
    {Epilogue::kDecay7, [](double r, double, double bias, double,
                           double) { return std::exp(-0.606531 * logistic(bias + r)); }},
    {Epilogue::kSigmoidBias,
     [](double r, double, double bias, double, double) { return logistic(bias + r); }},
    {Epilogue::kValueResidual, [](double r, double y, double bias, double a,
                                  double) { return y + (a - y) * logistic(bias + r); }},
};

TEST_CASE("epilogues follow their formulas, with the same bits on every instruction set") {
  static_assert(std::size(kCases) == kEpilogues);
  for (const EpilogueCase& c : kCases) {
    for (const std::size_t n : {1, 5, 8, 16, 31, 100}) {
      Random random(n);
      const auto r = random.floats(n, -6, 6), bias = random.floats(n, -2, 2);
      const auto a = random.floats(n), b = random.floats(n), start = random.floats(n);
      const auto kind = static_cast<std::size_t>(c.kind);
      const auto run = [&](const KernelTable& table) {
        std::vector<float> y = start;
        table.epilogue[kind]({r.data(), y.data(), bias.data(), a.data(), b.data(), n});
        return y;
      };
      const auto expected = run(*supported_tables().front());
      for (std::size_t i = 0; i < n; ++i) {
        const double exact = c.formula(r[i], start[i], bias[i], a[i], b[i]);
        CAPTURE(kind);
        CHECK(std::fabs(expected[i] - exact) <= 8 * 0x1p-23 * (1 + std::fabs(exact)));
      }
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CHECK(difference(expected, run(*table)) == "");
      }
    }
  }
}

TEST_CASE("sigmoid, tanh and decays end where they should at the far ends") {
  const std::vector<float> r = {-1e30f, -200.0f, -100.0f, -88.0f, 0.0f,
                                88.0f,  100.0f,  200.0f,  1e30f,  1e-20f};
  const std::vector<float> zero(r.size(), 0.0f);
  for (const KernelTable* table : supported_tables()) {
    const auto run = [&](Epilogue kind) {
      std::vector<float> y(r.size());
      table->epilogue[static_cast<std::size_t>(kind)](
          {r.data(), y.data(), zero.data(), nullptr, nullptr, r.size()});
      return y;
    };
    const auto sigmoid = run(Epilogue::kSigmoid), tanh = run(Epilogue::kTanh);
    const auto decay6 = run(Epilogue::kDecay6);
    CHECK(sigmoid.front() == 0.0f);
    CHECK(sigmoid[8] == 1.0f);
    CHECK(sigmoid[4] == 0.5f);
    CHECK(tanh.front() == -1.0f);
    CHECK(tanh[8] == 1.0f);
    CHECK(tanh.back() == 1e-20f);
    CHECK(decay6.front() == 1.0f);
    CHECK(decay6[8] == 0.0f);
  }
}

TEST_CASE("layer norm: any width, the same bits everywhere") {
  for (const std::size_t n : {1, 8, 15, 16, 17, 64, 100, 768}) {
    Random random(n);
    const auto x = random.floats(n, 3, 9), weight = random.floats(n), bias = random.floats(n);
    const auto run = [&](const KernelTable& table) {
      std::vector<float> out(n);
      table.layer_norm({x.data(), weight.data(), bias.data(), 1e-5f, n, out.data()});
      return out;
    };
    const auto expected = run(*supported_tables().front());
    double mean = 0, variance = 0;
    for (const float v : x) mean += v / static_cast<double>(n);
    for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double exact = (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
      CHECK(std::fabs(expected[i] - exact) <= 2e-5);
    }
    for (const KernelTable* table : supported_tables()) {
      CAPTURE(table->isa);
      CHECK(difference(expected, run(*table)) == "");
    }
  }
}

TEST_CASE("token shift mixes with the previous token, or gives the difference") {
  Random random(4);
  const auto x = random.floats(37), previous = random.floats(37), mu = random.floats(37, 0, 1);
  for (const KernelTable* table : supported_tables()) {
    std::vector<float> mixed(37), change(37);
    table->token_shift({x.data(), previous.data(), mu.data(), 37, mixed.data()});
    table->token_shift({x.data(), previous.data(), nullptr, 37, change.data()});
    for (std::size_t i = 0; i < 37; ++i) {
      CHECK(change[i] == previous[i] - x[i]);
      CHECK(mixed[i] == std::fma(previous[i] - x[i], mu[i], x[i]));
    }
  }
}

TEST_CASE("a row is scaled in place, every element once") {
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    for (const std::size_t n : {1, 8, 15, 16, 37}) {
      Random random(n);
      const auto x = random.floats(n);
      auto scaled = x;
      scaled.push_back(-7.0f);  // a guard behind
      table->scale(scaled.data(), 0.3f, n);
      for (std::size_t i = 0; i < n; ++i) CHECK(scaled[i] == 0.3f * x[i]);
      CHECK(scaled[n] == -7.0f);
    }
  }
}

TEST_CASE("the benchmarks' kernels read what they are given and count what they do") {
  const AlignedBuffer bytes(1024);  // AddressSanitizer watches its end
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    table->read(bytes.data(), 512);
    table->read(bytes.data(), 1024);
    const std::size_t products = table->dot_rounds(2);
    CHECK(products % (4 * kernels::kPeakDots) == 0);
    CHECK(products > 0);
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
