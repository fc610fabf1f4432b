// Recurrences: rows one by one or all at once, on any instruction set, give the
// same bits; and they follow the formulas, in double.
#include <cmath>

#include "doctest.h"
#include "kernels/dispatch.h"
#include "numeric.h"

namespace rwkvcpp::testing {
namespace {

using kernels::KernelTable;
using kernels::supported_tables;

constexpr std::size_t kRows = 5;

struct Head {
  std::size_t n;
  std::vector<float> r, k, v, w, a, gate, k_k, k_a, r_k, bonus, norm_weight, norm_bias, state;

  explicit Head(std::size_t size) : n(size) {
    Random random(size);
    const auto rows = [&](float low, float high) { return random.floats(kRows * n, low, high); };
    r = rows(-1, 1), k = rows(-1, 1), v = rows(-1, 1), w = rows(0.6f, 0.999f), a = rows(0, 1);
    gate = rows(-1, 1);
    k_k = random.floats(n), k_a = random.floats(n), r_k = random.floats(n);
    bonus = random.floats(n), norm_weight = random.floats(n), norm_bias = random.floats(n);
    state = random.floats(n * n);
  }
};

struct Result {
  std::vector<float> out, state;
};

/// All rows in one call, or one call a row.
template <class Call>
Result run(const Head& h, bool one_by_one, Call call) {
  Result result{std::vector<float>(kRows * h.n), h.state};
  if (one_by_one) {
    for (std::size_t t = 0; t < kRows; ++t) call(result, t, 1);
  } else {
    call(result, 0, kRows);
  }
  return result;
}

Result run7(const KernelTable& table, const Head& h, bool one_by_one) {
  return run(h, one_by_one, [&](Result& result, std::size_t t, std::size_t rows) {
    const std::size_t at = t * h.n;
    table.wkv7({h.r.data() + at, h.w.data() + at, h.k.data() + at, h.v.data() + at, h.a.data() + at,
                h.gate.data() + at, h.k_k.data(), h.k_a.data(), h.r_k.data(), h.norm_weight.data(),
                h.norm_bias.data(), 64e-5f, result.state.data(), result.out.data() + at, h.n, rows,
                h.n});
  });
}

Result run6(const KernelTable& table, const Head& h, bool one_by_one, bool constant_decay) {
  return run(h, one_by_one, [&](Result& result, std::size_t t, std::size_t rows) {
    const std::size_t at = t * h.n;
    table.wkv6({h.r.data() + at, h.k.data() + at, h.v.data() + at,
                constant_decay ? h.w.data() : h.w.data() + at, constant_decay ? 0 : h.n,
                h.bonus.data(), h.gate.data() + at, h.norm_weight.data(), h.norm_bias.data(),
                64e-5f, result.state.data(), result.out.data() + at, h.n, rows, h.n});
  });
}

using Matrix = std::vector<std::vector<double>>;

Matrix as_matrix(const std::vector<float>& state, std::size_t n) {
  Matrix m(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n * n; ++i) m[i / n][i % n] = state[i];
  return m;
}

std::vector<double> normalized(const std::vector<double>& y, const Head& h) {
  const auto n = static_cast<double>(h.n);
  double mean = 0, variance = 0;
  for (const double v : y) mean += v / n;
  for (const double v : y) variance += (v - mean) * (v - mean) / n;
  std::vector<double> out(h.n);
  for (std::size_t i = 0; i < h.n; ++i) {
    out[i] = (y[i] - mean) / std::sqrt(variance + 64e-5) * h.norm_weight[i] + h.norm_bias[i];
  }
  return out;
}

/// RWKV-7 as the paper writes it, S[key][value].
std::vector<double> formula7(const Head& h) {
  Matrix s = as_matrix(h.state, h.n);
  std::vector<double> out;
  for (std::size_t t = 0; t < kRows; ++t) {
    const std::size_t at = t * h.n;
    std::vector<double> kappa(h.n), key(h.n), y(h.n);
    double norm = 0, bonus = 0;
    for (std::size_t j = 0; j < h.n; ++j) {
      kappa[j] = static_cast<double>(h.k[at + j]) * h.k_k[j];
      norm += kappa[j] * kappa[j];
      key[j] = h.k[at + j] * (1 + (h.a[at + j] - 1.0) * h.k_a[j]);
      bonus += h.r[at + j] * key[j] * h.r_k[j];
    }
    for (double& value : kappa) value /= std::sqrt(norm);
    for (std::size_t i = 0; i < h.n; ++i) {
      double removed = 0;
      for (std::size_t j = 0; j < h.n; ++j) removed -= s[j][i] * kappa[j];
      for (std::size_t j = 0; j < h.n; ++j) {
        s[j][i] = s[j][i] * h.w[at + j] + removed * kappa[j] * h.a[at + j] + h.v[at + i] * key[j];
        y[i] += s[j][i] * h.r[at + j];
      }
    }
    const auto norm_y = normalized(y, h);
    for (std::size_t i = 0; i < h.n; ++i) {
      out.push_back((norm_y[i] + bonus * h.v[at + i]) * h.gate[at + i]);
    }
  }
  return out;
}

std::vector<double> formula6(const Head& h, bool constant_decay) {
  Matrix s = as_matrix(h.state, h.n);
  std::vector<double> out;
  for (std::size_t t = 0; t < kRows; ++t) {
    const std::size_t at = t * h.n;
    std::vector<double> y(h.n);
    for (std::size_t i = 0; i < h.n; ++i) {
      for (std::size_t j = 0; j < h.n; ++j) {
        const double kv = static_cast<double>(h.k[at + j]) * h.v[at + i];
        y[i] += h.r[at + j] * (h.bonus[j] * kv + s[j][i]);
        s[j][i] = kv + h.w[(constant_decay ? 0 : at) + j] * s[j][i];
      }
    }
    const auto norm_y = normalized(y, h);
    for (std::size_t i = 0; i < h.n; ++i) out.push_back(norm_y[i] * h.gate[at + i]);
  }
  return out;
}

void check_close(const std::vector<double>& exact, const std::vector<float>& found, std::size_t n) {
  for (std::size_t i = 0; i < exact.size(); ++i) {
    CHECK(std::fabs(exact[i] - found[i]) <= 2e-5 * std::sqrt(static_cast<double>(n)));
  }
}

void check_same(const Result& expected, const Result& found) {
  CHECK(difference(expected.out, found.out) == "");
  CHECK(difference(expected.state, found.state) == "");
}

TEST_CASE("wkv7: formula, any cut, every instruction set") {
  for (const std::size_t n : {8, 20, 64, 72}) {
    const Head h(n);
    const Result expected = run7(*supported_tables().front(), h, true);
    check_close(formula7(h), expected.out, n);
    for (const KernelTable* table : supported_tables()) {
      CAPTURE(table->isa);
      CAPTURE(n);
      check_same(expected, run7(*table, h, true));
      check_same(expected, run7(*table, h, false));
    }
  }
}

TEST_CASE("wkv6 and wkv5: formula, any cut, every instruction set") {
  for (const std::size_t n : {8, 20, 64, 72}) {
    for (const bool constant_decay : {false, true}) {
      const Head h(n);
      const Result expected = run6(*supported_tables().front(), h, true, constant_decay);
      check_close(formula6(h, constant_decay), expected.out, n);
      for (const KernelTable* table : supported_tables()) {
        CAPTURE(table->isa);
        CAPTURE(n);
        check_same(expected, run6(*table, h, true, constant_decay));
        check_same(expected, run6(*table, h, false, constant_decay));
      }
    }
  }
}

TEST_CASE("wkv4: formula, any cut, every instruction set, large keys") {
  constexpr std::size_t n = 37;
  Random random(4);
  const auto r = random.floats(kRows * n), k = random.floats(kRows * n, -60, 60);
  const auto v = random.floats(kRows * n), decay = random.floats(n, -3, -0.01f);
  const auto bonus = random.floats(n);
  const auto run4 = [&](const KernelTable& table, bool one_by_one) {
    std::vector<float> all(kRows * n + 3 * n, 0.0f);
    float *aa = all.data() + kRows * n, *bb = aa + n, *pp = bb + n;
    std::fill(pp, pp + n, -1e30f);
    const std::size_t step = one_by_one ? 1 : kRows;
    for (std::size_t t = 0; t < kRows; t += step) {
      table.wkv4({r.data() + t * n, k.data() + t * n, v.data() + t * n, decay.data(), bonus.data(),
                  aa, bb, pp, all.data() + t * n, n, step, n});
    }
    return all;
  };
  const auto expected = run4(*supported_tables().front(), true);
  for (std::size_t c = 0; c < n; ++c) {
    for (std::size_t t = 0; t < kRows; ++t) {
      long double top = 0, bottom = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        const long double age = static_cast<long double>(t - s) - 1;
        const long double weight =
            std::exp(static_cast<long double>(k[s * n + c]) + (s == t ? bonus[c] : age * decay[c]));
        top += weight * v[s * n + c];
        bottom += weight;
      }
      CHECK(std::fabs(static_cast<double>(top / bottom) * r[t * n + c] - expected[t * n + c]) <=
            1e-4);
    }
  }
  for (const KernelTable* table : supported_tables()) {
    CAPTURE(table->isa);
    CHECK(difference(expected, run4(*table, true)) == "");
    CHECK(difference(expected, run4(*table, false)) == "");
  }
}

}  // namespace
}  // namespace rwkvcpp::testing
