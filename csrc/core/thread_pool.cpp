#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "core/float_environment.h"

namespace rwkvcpp {
namespace {

constexpr int kIndexBits = 20;
constexpr std::uint64_t kIndexMask = (std::uint64_t{1} << kIndexBits) - 1;
constexpr std::size_t kMaxPieces = std::size_t{1} << (kIndexBits - 1);  // room for overshoot
constexpr int kSpins = 4000;  // some 40 microseconds of pause
constexpr int kYields = 200;

std::atomic<std::uint64_t> g_forks{0};

void count_forks() {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { g_forks.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
}

std::size_t piece_of(std::uint64_t ticket) { return ticket & kIndexMask; }
std::size_t pieces_of(std::uint64_t ticket) { return (ticket >> kIndexBits) & kIndexMask; }
bool has_pieces(std::uint64_t ticket) { return piece_of(ticket) < pieces_of(ticket); }

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins, then yields; false when both were in vain.
template <class Ready>
bool wait_awake(Ready ready, int n_yields) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return true;
    pause();
  }
  for (int i = 0; i < n_yields; ++i) {
    if (ready()) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads > 0 ? n_threads : default_threads()) {
  count_forks();
  start();
}

ThreadPool::~ThreadPool() {
  if (fork_count_ != g_forks.load(std::memory_order_relaxed)) {
    static_cast<void>(shared_.release());  // the parent's threads, which do not exist here
    return;
  }
  shared_->stopping = true;
  shared_->ticket.fetch_add(std::uint64_t{1} << (2 * kIndexBits));
  shared_->ticket.notify_all();
  for (std::thread& thread : shared_->threads) thread.join();
}

void ThreadPool::start() {
  fork_count_ = g_forks.load(std::memory_order_relaxed);
  shared_ = std::make_unique<Shared>();
  for (int worker = 1; worker < n_threads_; ++worker) {
    shared_->threads.emplace_back([shared = shared_.get(), worker] { work(*shared, worker); });
  }
}

void ThreadPool::run_erased(std::size_t n_pieces, void* body, Call call) {
  const DefaultFloatEnvironment environment;
  if (n_pieces <= 1 || n_threads_ == 1) {
    for (std::size_t piece = 0; piece < n_pieces; ++piece) call(body, piece, 0);
    return;
  }
  if (fork_count_ != g_forks.load(std::memory_order_relaxed)) {
    static_cast<void>(shared_.release());
    start();
  }
  if (n_pieces <= kMaxPieces) {
    run_batch(0, n_pieces, body, call);
    return;
  }
  for (std::size_t first = 0; first < n_pieces; first += kMaxPieces) {
    run_batch(first, std::min(kMaxPieces, n_pieces - first), body, call);
  }
}

void ThreadPool::run_batch(std::size_t first, std::size_t n_pieces, void* body, Call call) {
  struct Shifted {
    std::size_t first;
    void* body;
    Call call;
  } shifted{first, body, call};
  Shared& s = *shared_;
  ++n_barriers_;
  if (first == 0) {
    s.job = {body, call};
  } else {
    s.job = {&shifted, [](void* b, std::size_t piece, int worker) {
               const auto* job = static_cast<const Shifted*>(b);
               job->call(job->body, job->first + piece, worker);
             }};
  }
  s.n_done.store(0, std::memory_order_relaxed);
  const std::uint64_t epoch = (s.ticket.load(std::memory_order_relaxed) >> (2 * kIndexBits)) + 1;
  s.ticket.store(epoch << (2 * kIndexBits) | std::uint64_t{n_pieces} << kIndexBits);
  if (s.n_asleep.load() > 0) s.ticket.notify_all();

  take_pieces(s, 0);
  const auto done = [&] { return s.n_done.load(std::memory_order_acquire) == n_pieces; };
  while (!wait_awake(done, kYields)) {
  }
  if (s.failure) std::rethrow_exception(std::exchange(s.failure, nullptr));
}

bool ThreadPool::take_pieces(Shared& s, int worker) {
  bool any = false;
  while (has_pieces(s.ticket.load(std::memory_order_relaxed))) {
    const std::uint64_t ticket = s.ticket.fetch_add(1, std::memory_order_acq_rel);
    if (!has_pieces(ticket)) break;
    any = true;
    // The job cannot change before this piece is counted as done.
    try {
      s.job.call(s.job.body, piece_of(ticket), worker);
    } catch (...) {
      const std::scoped_lock lock(s.failure_mutex);
      if (!s.failure) s.failure = std::current_exception();
    }
    s.n_done.fetch_add(1, std::memory_order_acq_rel);
  }
  return any;
}

void ThreadPool::work(Shared& s, int worker) {
  const DefaultFloatEnvironment environment;
  while (!s.stopping.load(std::memory_order_relaxed)) {
    if (take_pieces(s, worker)) continue;
    const std::uint64_t seen = s.ticket.load(std::memory_order_relaxed);
    const auto changed = [&] {
      const std::uint64_t now = s.ticket.load(std::memory_order_relaxed);
      return now != seen || has_pieces(now);
    };
    if (wait_awake(changed, kYields)) continue;
    s.n_asleep.fetch_add(1);
    const std::uint64_t last = s.ticket.load();
    if (!has_pieces(last) && !s.stopping.load()) s.ticket.wait(last);
    s.n_asleep.fetch_sub(1);
  }
}

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Cores' worth of time that cgroup v2 (cpu.max) or v1 grants; 0: no limit.
double cgroup_cores() {
  std::string group;
  std::ifstream membership("/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    if (line.starts_with("0::")) group = line.substr(3);
  }
  double cores = 0;
  while (!group.empty()) {  // the limits of all parents hold as well
    double quota = 0, period = 0;
    std::istringstream limits(first_line("/sys/fs/cgroup" + group + "/cpu.max"));
    if (limits >> quota >> period && quota > 0 && period > 0) {
      cores = cores > 0 ? std::min(cores, quota / period) : quota / period;
    }
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
  if (cores > 0) return cores;
  double quota = 0, period = 0;
  std::istringstream(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")) >> quota;
  std::istringstream(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us")) >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

int physical_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) {
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  }
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string siblings = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                            "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

}  // namespace

int default_threads() {
  const int cores = physical_cores();
  const double quota = cgroup_cores();
  if (quota <= 0) return cores;
  return std::clamp(static_cast<int>(std::ceil(quota)), 1, cores);
}

}  // namespace rwkvcpp
