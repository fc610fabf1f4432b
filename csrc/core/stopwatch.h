// Times of repeated calls, for benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace rwkvcpp {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The median time of `repeats` calls, after one that warms up.
template <class Call>
double median_seconds(int repeats, Call call) {
  call();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds();
    call();
    times.push_back(seconds() - start);
  }
  std::ranges::nth_element(times, times.begin() + repeats / 2);
  return times[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace rwkvcpp
