#include "quant/iq3_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/fit.h"

namespace rwkvcpp {
namespace {

constexpr int kMaxLevel = static_cast<int>(kIq3Levels) - 1;
constexpr int kMaxMagnitude = 2 * kMaxLevel + 1;

unsigned code_of(const float* x, float inverse) noexcept {
  unsigned code = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const int level = std::clamp(fit::nearest(0.5f * (inverse * x[i] - 1.0f)), 0, kMaxLevel);
    code |= static_cast<unsigned>(level) << (3 * i);
  }
  return code;
}

float magnitude(unsigned entry, std::size_t i) noexcept {
  return static_cast<float>(2 * iq3_level(entry, i) + 1);
}

/// The squared distance of two entries, in levels.
unsigned distance(unsigned a, unsigned b) noexcept {
  int sum = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const int off = static_cast<int>(iq3_level(a, i)) - static_cast<int>(iq3_level(b, i));
    sum += off * off;
  }
  return static_cast<unsigned>(sum);
}

}  // namespace

Iq3Codebook::Iq3Codebook(std::span<const std::uint16_t> entries, const Search& search)
    : entries_(entries), search_(search), index_of_(kCodes, -1) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    index_of_[entries[i]] = static_cast<std::int16_t>(i);
  }
  for (unsigned code = 0; code < kCodes; ++code) {
    near_begin_.push_back(static_cast<std::uint32_t>(near_.size()));
    if (index_of_[code] < 0) list_near(code);
  }
  near_begin_.push_back(static_cast<std::uint32_t>(near_.size()));
}

void Iq3Codebook::list_near(unsigned code) {
  constexpr std::size_t kDistances = 4 * kMaxLevel * kMaxLevel + 1;
  bool found[kDistances] = {};
  for (const unsigned entry : entries_) found[distance(code, entry)] = true;
  std::size_t n_found = 0;
  for (unsigned d = 0; d < kDistances && n_found < search_.n_near; ++d) {
    if (!found[d]) continue;
    ++n_found;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (distance(code, entries_[i]) == d) near_.push_back(static_cast<std::uint16_t>(i));
    }
  }
}

bool Iq3Codebook::Choice::all_exact() const noexcept {
  return std::all_of(exact, exact + kGroups, [](bool e) { return e; });
}

std::uint16_t Iq3Codebook::best_near(const Groups& groups, std::size_t group, unsigned code,
                                     float scale) const {
  const float* x = groups.x + 4 * group;
  const float* w = groups.roots + 4 * group;
  float least = std::numeric_limits<float>::max();
  std::uint16_t best = near_[near_begin_[code]];
  for (std::uint32_t n = near_begin_[code]; n < near_begin_[code + 1]; ++n) {
    float error = 0.0f;
    for (std::size_t i = 0; i < 4; ++i) {
      const float off = scale * magnitude(entries_[near_[n]], i) - x[i];
      error += w[i] * off * off;
    }
    if (!(error < least)) continue;
    least = error;
    best = near_[n];
  }
  return best;
}

void Iq3Codebook::choose(const Groups& groups, float inverse, float scale, std::size_t group,
                         Choice& choice) const {
  const unsigned code = code_of(groups.x + 4 * group, inverse);
  choice.exact[group] = index_of_[code] >= 0;
  choice.entries[group] = choice.exact[group] ? static_cast<std::uint16_t>(index_of_[code])
                                              : best_near(groups, group, code, scale);
}

Iq3Fit Iq3Codebook::fit(const float* x, const float* w) const {
  const float peak = *std::max_element(x, x + kBlock);
  if (!(peak >= search_.smallest_peak)) return {0.0f, {}};
  float roots[kBlock];
  for (std::size_t i = 0; i < kBlock; ++i) roots[i] = std::sqrt(w[i]);
  const Groups groups{x, w, roots};
  const auto moments = [&](const Choice& choice) {
    fit::Moments m;
    for (std::size_t i = 0; i < kBlock; ++i) {
      m.add(w[i], x[i], magnitude(entries_[choice.entries[i / 4]], i % 4));
    }
    return m;
  };

  Choice best;
  std::fill(best.exact, best.exact + kGroups, !search_.repeats_all);
  float scale = peak / static_cast<float>(kMaxMagnitude), gain = 0.0f;
  for (int t = -search_.tries; t <= search_.tries; ++t) {
    const float inverse = (static_cast<float>(kMaxMagnitude) + static_cast<float>(t) * 0.2f) / peak;
    Choice choice;
    for (std::size_t g = 0; g < kGroups; ++g) choose(groups, inverse, 1.0f / inverse, g, choice);
    const fit::Moments m = moments(choice);
    if (!(m.ll > 0.0f && m.xl * m.xl > gain * m.ll)) continue;
    scale = m.scale();
    gain = scale * m.xl;
    best = choice;
  }
  if (!best.all_exact() && scale > 0.0f) {  // again, for the scale that was found
    const Choice first = best;
    for (std::size_t g = 0; g < kGroups; ++g) {
      if (search_.repeats_all || !first.exact[g]) choose(groups, 1.0f / scale, scale, g, best);
    }
    const fit::Moments m = moments(best);
    if (m.ll > 0.0f) scale = m.scale();
  }
  Iq3Fit found{scale, {}};
  std::copy(best.entries, best.entries + kGroups, found.entries);
  return found;
}

int iq3_sub_scale(float scale, float peak) noexcept {
  const float step = peak / 31.0f;
  return std::clamp(fit::nearest(0.5f * (1.0f / step * scale - 1.0f)), 0, 15);
}

}  // namespace rwkvcpp
