// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every executor must do: the ranges of all calls of f, checked for every n and grain of interest.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <quern/core/executor.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace quern_test {

/// Calls run(n, grain, f) and checks the ranges that f got: together [0, n), each item once, each range of
/// grain items or more unless there is only one, and as many ranges as part_count says for @p threads.
template <class Run>
void check_cover(std::size_t threads, Run run) {
  for (const std::size_t n : {0u, 1u, 2u, 3u, 7u, 64u, 1000u})
    for (const std::size_t grain : {0u, 1u, 5u, 1000u}) {
      CAPTURE(threads);
      CAPTURE(n);
      CAPTURE(grain);
      std::mutex mutex;
      std::vector<std::pair<std::size_t, std::size_t>> ranges;
      run(n, grain, [&](std::size_t begin, std::size_t end) {
        std::lock_guard lock(mutex);
        ranges.emplace_back(begin, end);
      });
      std::sort(ranges.begin(), ranges.end());
      CHECK(ranges.size() == quern::part_count(n, grain, threads));
      std::size_t covered = 0;
      for (const auto& [begin, end] : ranges) {
        REQUIRE(begin == covered);
        REQUIRE(end > begin);
        if (ranges.size() > 1) CHECK(end - begin >= grain);
        covered = end;
      }
      CHECK(covered == n);
    }
}

template <quern::executor E>
void check_executor(E& e, std::size_t threads) {
  CHECK(e.concurrency() == threads);
  // A lost wake-up or a range done twice is a matter of timing: ask often.
  for (int round = 0; round < 50; ++round)
    check_cover(threads, [&](std::size_t n, std::size_t grain, auto f) { e.parallel_for(n, grain, f); });
}

/// Calls two slow ranges until another thread has taken one (up to a thousand times: a pool may be slow to
/// wake) and checks that every call returns after both, also where the caller's own is done first.
template <quern::executor E>
void check_threads(E& e) {
  const auto caller = std::this_thread::get_id();
  std::atomic<bool> other{false};
  for (int round = 0; round < 1000 && !other; ++round) {
    std::atomic<int> done{0};
    e.parallel_for(2, 1, [&](std::size_t, std::size_t) {
      const bool mine = std::this_thread::get_id() == caller;
      std::this_thread::sleep_for(std::chrono::milliseconds(mine ? 2 : 10));
      if (!mine) other = true;
      ++done;
    });
    REQUIRE(done == 2);
  }
  CHECK(other);
}

}  // namespace quern_test
