// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::thread_pool pool(2);
// pool.parallel_for(n, 1, [&](std::size_t begin, std::size_t end) { ... });

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <quern/core/config.hpp>
#include <quern/core/executor.hpp>
#include <thread>
#include <vector>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// A small executor for tools, tests and examples. An engine passes its own threads instead.
/// Workers spin for a short while before they sleep: fork and join of a spinning pool costs 0.07 us against
/// 18 us for new threads (2 cores, Zen 5, 22 November 2026).
class thread_pool {
 public:
  /// More threads are not made: few machines have as many cores, and a number that has wrapped is larger.
  static constexpr std::size_t most = 1024;
  /// @param threads  how many run at once, the caller included; 0 takes the number of cores. Where the system
  ///                 starts fewer, the pool does with those it got: `concurrency` says how many they are.
  explicit thread_pool(std::size_t threads = 0) {
    if (threads == 0) threads = std::thread::hardware_concurrency();
    if (threads == 0) threads = 1;
    if (threads > most) threads = most;
    workers_.reserve(threads - 1);
    const auto start = [this](std::size_t i) { workers_.emplace_back([this, i] { work(i); }); };
#if defined(__cpp_exceptions)
    try {
      for (std::size_t i = 1; i < threads; ++i) start(i);
    } catch (...) {  // no further thread
    }
#else
    for (std::size_t i = 1; i < threads; ++i) start(i);
#endif
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
  }
  std::size_t concurrency() const { return workers_.size() + 1; }

  /// Calls f(begin, end) for contiguous ranges that cover [0, n), each of `grain` items or more.
  /// Not to be called from inside itself, nor by two threads at once.
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) {
    const std::size_t parts = part_count(n, grain, concurrency());
    if (parts <= 1) return serial{}.parallel_for(n, grain, f);
    // An object of our own, as f may be const or a function.
    auto body = [&f](std::size_t b, std::size_t e) { f(b, e); };
    job_ = {&body, [](void* g, std::size_t b, std::size_t e) { (*static_cast<decltype(body)*>(g))(b, e); }, n,
            parts};
    pending_.store(workers_.size(), std::memory_order_relaxed);
    {
      std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    run(0);
    // Where other programs want the cores too, the worker may not be running at all: let it.
    for (int spin = 0; pending_.load(std::memory_order_acquire) != 0; ++spin)
      spin < 2000 ? relax() : std::this_thread::yield();
  }

 private:
  struct job {
    void* f = nullptr;
    void (*call)(void*, std::size_t, std::size_t) = nullptr;
    std::size_t n = 0, parts = 0;
  };
  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }
  void run(std::size_t i) {
    job_.call(job_.f, part_begin(job_.n, job_.parts, i), part_begin(job_.n, job_.parts, i + 1));
  }
  void work(std::size_t i) {
    std::size_t seen = 0;
    for (;;) {
      // 2,000 pauses are about 50 us: longer than the gap between two matrices of one layer, short enough
      // that an idle program does not hold a core.
      for (int spin = 0; spin < 2000 && generation_.load(std::memory_order_acquire) == seen; ++spin) relax();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
      if (i < job_.parts) run(i);
      // Every worker answers every job, also one without a share: job_ may be written again only after that.
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::size_t> generation_{0}, pending_{0};
  job job_;
  bool stop_ = false;
};
static_assert(executor<thread_pool>);

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
