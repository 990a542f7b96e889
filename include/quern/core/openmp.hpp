// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply(w, x, y, quern::openmp{});     // as many threads as OpenMP would take
// quern::multiply(w, x, y, quern::openmp(4));    // 4 threads
// #pragma omp parallel                           // inside a region of your own: its threads share the call
// quern::multiply(w, x, y, quern::part_of(omp_get_thread_num(), omp_get_num_threads()));

#if !defined(_OPENMP)
#error "quern/core/openmp.hpp: compile with -fopenmp; without it every loop would silently run in one thread"
#endif

#include <omp.h>
#include <quern/core/config.hpp>

#include <quern/core/executor.hpp>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// Runs ranges as threads of OpenMP. Inside a parallel region it opens a nested one, which OpenMP runs in one
/// thread unless told otherwise.
class openmp {
 public:
  /// @param threads  how many run at once, the caller included; 0 takes what OpenMP would (OMP_NUM_THREADS,
  ///                 omp_set_num_threads), asked here and not again
  explicit openmp(std::size_t threads = 0)
      : threads_(threads != 0 ? threads : static_cast<std::size_t>(omp_get_max_threads())) {}
  std::size_t concurrency() const { return threads_; }

  /// Calls f(begin, end) for contiguous ranges that cover [0, n), each of `grain` items or more.
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
    const std::size_t parts = part_count(n, grain, threads_);
    if (parts <= 1) return serial{}.parallel_for(n, grain, f);
    // A loop over the ranges instead of one range per thread: OpenMP may start fewer threads than asked for.
    const int team = static_cast<int>(parts);
#pragma omp parallel for num_threads(team) schedule(static, 1)
    for (std::size_t i = 0; i < parts; ++i) f(part_begin(n, parts, i), part_begin(n, parts, i + 1));
  }

 private:
  std::size_t threads_;
};
static_assert(executor<openmp>);

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
