// The search that IQ3_XXS and IQ3_S share: a scale for 32 magnitudes, and an entry of the
// codebook for every four of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quant/format.h"
#include "quant/iq3_codebooks.h"

namespace rwkvcpp {

struct Iq3Fit {
  float scale;                        // magnitude = scale * (2 level + 1)
  std::uint16_t entries[kBlock / 4];  // indices into the codebook
};

/// A codebook, and for any four levels the entries near to them.
class Iq3Codebook {
 public:
  struct Search {
    int tries;            // scales on either side of the one that makes the peak the last level
    std::size_t n_near;   // distances at which entries count as near
    bool repeats_all;     // once one group was off the codebook; else those that were
    float smallest_peak;  // all magnitudes up to it are zeros
  };

  Iq3Codebook(std::span<const std::uint16_t> entries, const Search& search);

  /// 32 magnitudes; w: what a squared error of each costs. A scale of zero when all magnitudes are
  /// zeros.
  Iq3Fit fit(const float* x, const float* w) const;

 private:
  static constexpr std::size_t kGroups = kBlock / 4;
  static constexpr std::size_t kCodes = 4096;  // eight levels, four times

  struct Choice {
    std::uint16_t entries[kGroups] = {};
    bool exact[kGroups] = {};  // the levels were an entry
    bool all_exact() const noexcept;
  };
  struct Groups {
    const float *x, *w, *roots;  // of w
  };

  void choose(const Groups& groups, float inverse, float scale, std::size_t group,
              Choice& choice) const;
  std::uint16_t best_near(const Groups& groups, std::size_t group, unsigned code,
                          float scale) const;
  void list_near(unsigned code);

  std::span<const std::uint16_t> entries_;
  Search search_;
  std::vector<std::int16_t> index_of_;     // by code; -1: no entry
  std::vector<std::uint32_t> near_begin_;  // by code, into near_
  std::vector<std::uint16_t> near_;        // nearest first, then by index
};

/// A sub-scale's code: scale = peak / 31 * (2 code + 1).
int iq3_sub_scale(float scale, float peak) noexcept;

}  // namespace rwkvcpp
