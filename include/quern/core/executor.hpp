// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply(w, x, y);                 // serial: the library never starts a thread
// quern::thread_pool pool(2);               // quern/core/thread_pool.hpp, for tools
// quern::multiply(w, x, y, pool);           // or any type with the two members below

#include <cstddef>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

/// Threads come from the caller. An executor splits [0, n) into contiguous ranges of at least `grain` items,
/// calls f(begin, end) once for each, possibly at the same time, and returns when all are done. f must not
/// throw. The law: results may not depend on the split.
template <class E>
concept executor = requires(E& e, void (*f)(std::size_t, std::size_t)) {
  e.parallel_for(std::size_t{}, std::size_t{}, f);
  {e.concurrency()};
};

/// Runs everything in the calling thread.
struct serial {
  static constexpr std::size_t concurrency() { return 1; }
  template <class F>
  void parallel_for(std::size_t n, std::size_t /*grain*/, F&& f) const {
    if (n != 0) f(std::size_t{0}, n);
  }
};
static_assert(executor<serial>);

}  // namespace quern::inline v0
