// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <limits>
#include <quern/core/eigen_pool.hpp>
#include <quern/core/executor.hpp>
#include <quern/core/thread_pool.hpp>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include "cover.hpp"
#if defined(__linux__)
#include <sys/resource.h>
#include <unistd.h>
#endif

using namespace quern;
using namespace quern_test;

static_assert(part_count(0, 5, 4) == 0 && part_count(1, 5, 4) == 1 && part_count(9, 5, 4) == 1);
static_assert(part_count(10, 5, 4) == 2 && part_count(1000, 5, 4) == 4 && part_count(3, 0, 4) == 3);
static_assert(part_count(7, 1, 0) == 1);
static_assert(part_begin(7, 3, 0) == 0 && part_begin(7, 3, 1) == 2 && part_begin(7, 3, 2) == 4 &&
              part_begin(7, 3, 3) == 7);
static_assert(part_of(0, std::size_t{3}).concurrency() == 3);             // two kinds of integer
constexpr std::size_t largest = std::numeric_limits<std::size_t>::max();  // 3 * 5 * 17 * .. : divisible by 3
static_assert(part_begin(largest, 3, 2) == largest / 3 * 2 && part_begin(largest, 4, 4) == largest);

TEST_CASE("serial covers everything in one range") {
  serial e;
  check_executor(e, 1);
}

TEST_CASE("thread_pool covers everything once") {
  for (std::size_t threads = 1; threads <= 4; ++threads) {
    thread_pool pool(threads);
    check_executor(pool, threads);
  }
}

namespace {
std::atomic<std::size_t> counted{0};
void count_range(std::size_t begin, std::size_t end) { counted += end - begin; }
}  // namespace

TEST_CASE("thread_pool runs what is const, and functions") {
  thread_pool pool(2);
  std::atomic<std::size_t> items{0};
  const auto f = [&](std::size_t begin, std::size_t end) { items += end - begin; };
  pool.parallel_for(9, 1, f);
  CHECK(items == 9);
  pool.parallel_for(7, 1, count_range);
  CHECK(counted == 7);
}

// Sanitizers need address space of their own.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("thread_pool does with the threads that the system gives it") {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  REQUIRE(pages > 0);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit little = before;
  little.rlim_cur = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{200} << 20);
  REQUIRE(setrlimit(RLIMIT_AS, &little) == 0);
  {
    thread_pool pool(500);  // stacks of 8 MB
    CHECK(pool.concurrency() >= 1);
    CHECK(pool.concurrency() < 500);
    std::atomic<std::size_t> items{0};
    pool.parallel_for(1000, 1, [&](std::size_t begin, std::size_t end) { items += end - begin; });
    CHECK(items == 1000);
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
}
#endif

TEST_CASE("part_of: all parts together cover everything once") {
  for (int nth = 1; nth <= 4; ++nth)
    check_cover(static_cast<std::size_t>(nth), [&](std::size_t n, std::size_t grain, auto f) {
      for (int ith = 0; ith < nth; ++ith) {
        part_of part(ith, nth);
        CHECK(part.concurrency() == static_cast<std::size_t>(nth));
        std::size_t calls = 0;
        part.parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
          ++calls;
          f(begin, end);
        });
        CHECK(calls == (static_cast<std::size_t>(ith) < part_count(n, grain, part.concurrency()) ? 1 : 0));
      }
    });
}

TEST_CASE("eigen_pool covers everything once") {
  for (int threads = 1; threads <= 4; ++threads) {
    Eigen::ThreadPool threads_of_engine(threads, false);
    eigen_pool pool(threads_of_engine);
    check_executor(pool, static_cast<std::size_t>(threads));
  }
  Eigen::ThreadPool one(1, false);
  eigen_pool three(one, 3);  // more ranges than threads
  check_executor(three, 3);
}

TEST_CASE("the pools use their threads and wait for them") {
  thread_pool own(2);
  check_threads(own);
  Eigen::ThreadPool threads(2, false);
  eigen_pool foreign(threads);
  check_threads(foreign);
}

TEST_CASE("eigen_pool may be used by all threads of its own pool at once") {
  Eigen::ThreadPool threads(2, false);
  eigen_pool pool(threads), outer(threads, 8);
  std::atomic<std::size_t> items{0};
  for (int round = 0; round < 200; ++round)
    outer.parallel_for(8, 1, [&](std::size_t, std::size_t) {
      pool.parallel_for(64, 1, [&](std::size_t begin, std::size_t end) { items += end - begin; });
    });
  CHECK(items == 200u * 8u * 64u);
}

namespace {

// A pool whose threads are busy elsewhere: its closures run when the test says so.
struct late_pool {
  std::vector<std::function<void()>> waiting;
  void Schedule(std::function<void()> f) { waiting.push_back(std::move(f)); }
  int NumThreads() const { return 3; }
};

}  // namespace

TEST_CASE("eigen_pool does not wait for a pool that is busy") {
  late_pool threads;
  eigen_pool pool(threads);
  check_executor(pool, 3);
  REQUIRE(!threads.waiting.empty());
  for (auto& f : threads.waiting) f();  // too late: must touch nothing of calls that have returned
}
