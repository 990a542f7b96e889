// SPDX-License-Identifier: Apache-2.0
#pragma once
// Eigen::ThreadPool threads(4);                  // unsupported/Eigen/CXX11/ThreadPool
// quern::eigen_pool pool(threads);
// quern::multiply(w, x, y, pool);

#include <atomic>
#include <quern/core/config.hpp>
#include <quern/core/executor.hpp>
#include <type_traits>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// An executor on the threads of an engine that has an Eigen::ThreadPoolInterface, or any pool with
/// `Schedule(std::function<void()>)` and `int NumThreads()`. Eigen itself is not included.
///
/// The caller takes ranges like everybody else until none is left and waits only for those that a thread of
/// the pool has begun. It may therefore be a thread of the pool, and the pool may be busy: nothing waits for a
/// thread that is not running. One job of a few words is allocated per call; it lives until the pool has run
/// the last closure of it, which may be after the call. The pool must run every closure it was given (one
/// that it drops leaks the job), and Schedule must not throw.
template <class Pool>
class eigen_pool {
 public:
  /// @param pool     outlives this object
  /// @param threads  how many run at once, the caller included; 0 takes pool.NumThreads(), as an engine has
  ///                 as many as the machine has cores
  explicit eigen_pool(Pool& pool, std::size_t threads = 0)
      : pool_(&pool), threads_(threads != 0 ? threads : static_cast<std::size_t>(pool.NumThreads())) {}
  std::size_t concurrency() const { return threads_; }

  /// Calls f(begin, end) for contiguous ranges that cover [0, n), each of `grain` items or more. From any
  /// number of threads at once.
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
    const std::size_t parts = part_count(n, grain, threads_);
    if (parts <= 1) return serial{}.parallel_for(n, grain, f);
    auto* const j = new job<std::remove_reference_t<F>>(f, n, parts);
    for (std::size_t i = 1; i < parts; ++i)
      pool_->Schedule([j] {
        j->work();
        j->release();
      });
    j->work();
    j->wait();
    j->release();
  }

 private:
  /// One call; owned by its `parts` users, of which the last deletes it.
  template <class F>
  class job {
   public:
    job(F& f, std::size_t n, std::size_t parts) : f_(&f), n_(n), parts_(parts), users_(parts) {}
    /// Takes ranges until none is left. f_ is used only for a range that the caller still waits for.
    void work() {
      for (;;) {
        const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
        if (i >= parts_) return;
        (*f_)(part_begin(n_, parts_, i), part_begin(n_, parts_, i + 1));
        if (done_.fetch_add(1, std::memory_order_release) + 1 == parts_) done_.notify_one();
      }
    }
    void wait() {
      for (std::size_t d; (d = done_.load(std::memory_order_acquire)) != parts_;)
        done_.wait(d, std::memory_order_acquire);
    }
    void release() {
      if (users_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

   private:
    F* f_;
    std::size_t n_, parts_;
    std::atomic<std::size_t> next_{0}, done_{0}, users_;
  };
  Pool* pool_;
  std::size_t threads_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
