#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "core/thread_pool.h"
#include "doctest.h"

namespace rwkvcpp {
namespace {

TEST_CASE("every piece runs once, on a worker that exists") {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (const std::size_t n : {0, 1, 2, 3, 100, 5000}) {
      std::vector<std::atomic<int>> runs(n);
      std::atomic<bool> known_worker{true};
      pool.run(n, [&](std::size_t piece, int worker) {
        runs[piece].fetch_add(1);
        if (worker < 0 || worker >= threads) known_worker = false;
      });
      for (const auto& count : runs) CHECK(count.load() == 1);
      CHECK(known_worker.load());
    }
  }
}

TEST_CASE("regions follow one another without mixing their pieces") {
  ThreadPool pool(3);
  for (int region = 0; region < 3000; ++region) {
    std::atomic<int> sum{0};
    pool.run(7, [&](std::size_t piece, int) { sum.fetch_add(region + static_cast<int>(piece)); });
    REQUIRE(sum.load() == 7 * region + 21);
  }
}

TEST_CASE("more pieces than a ticket holds are all done") {
  ThreadPool pool(2);
  std::atomic<std::size_t> sum{0};
  const std::size_t n = (std::size_t{1} << 19) + 77;
  pool.run(n, [&](std::size_t piece, int) { sum.fetch_add(piece, std::memory_order_relaxed); });
  CHECK(sum.load() == n * (n - 1) / 2);
}

TEST_CASE("an exception in a piece is thrown to the caller, and the pool lives on") {
  ThreadPool pool(2);
  const auto failing = [](std::size_t piece, int) {
    if (piece == 13) throw std::runtime_error("piece 13");
  };
  CHECK_THROWS_WITH_AS(pool.run(50, failing), "piece 13", std::runtime_error);
  std::atomic<int> runs{0};
  pool.run(50, [&](std::size_t, int) { runs.fetch_add(1); });
  CHECK(runs.load() == 50);
}

TEST_CASE("a forked child starts its own threads") {
  if (std::getenv("RWKVCPP_EMULATED") != nullptr) {
    MESSAGE("skipped: user-mode emulation cannot fork a process that has threads");
    return;
  }
  ThreadPool pool(2);
  pool.run(10, [](std::size_t, int) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> runs{0};
    pool.run(64, [&](std::size_t, int) { runs.fetch_add(1); });
    _exit(runs.load() == 64 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("the default is at least one thread") { CHECK(default_threads() >= 1); }

}  // namespace
}  // namespace rwkvcpp
