// Threads that stay, and regions of pieces that they share out among themselves.
//
// A region is one barrier: run() returns when all pieces are done. Pieces are
// taken from one counter, so a core that a neighbour keeps busy takes fewer. Who
// waits spins for some microseconds, then yields, then sleeps. After fork() the
// child starts its own threads at the first region.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rwkvcpp {

class ThreadPool {
 public:
  /// n_threads counts the caller; 0 asks default_threads().
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const noexcept { return n_threads_; }

  /// Calls body(piece, worker) for every piece < n_pieces; worker < n_threads()
  /// names the thread, for scratch memory. One region at a time: callers take
  /// turns themselves. The first exception is thrown again here.
  template <class Body>
  void run(std::size_t n_pieces, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    void* erased = const_cast<void*>(static_cast<const void*>(&body));
    run_erased(n_pieces, erased, [](void* b, std::size_t piece, int worker) {
      (*static_cast<Plain*>(b))(piece, worker);
    });
  }

  /// Regions that needed more than the caller's thread, since the start.
  std::uint64_t n_barriers() const noexcept { return n_barriers_; }

 private:
  using Call = void (*)(void* body, std::size_t piece, int worker);
  struct Job {
    void* body = nullptr;
    Call call = nullptr;
  };
  /// What threads share; a forked child leaves its parent's behind and makes another.
  struct Shared {
    Job job;
    // epoch << 40 | number of pieces << 20 | next piece
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<std::size_t> n_done{0};
    std::atomic<int> n_asleep{0};
    std::atomic<bool> stopping{false};
    std::mutex failure_mutex;
    std::exception_ptr failure;
    std::vector<std::thread> threads;
  };

  void run_erased(std::size_t n_pieces, void* body, Call call);
  void run_batch(std::size_t first, std::size_t n_pieces, void* body, Call call);
  void start();
  static void work(Shared& shared, int worker);
  static bool take_pieces(Shared& shared, int worker);

  int n_threads_;
  std::uint64_t fork_count_ = 0;
  std::uint64_t n_barriers_ = 0;
  std::unique_ptr<Shared> shared_;
};

/// Physical cores that this process may use: affinity mask and cgroup quota
/// respected, two hardware threads of a core counted once; at least 1.
int default_threads();

}  // namespace rwkvcpp
